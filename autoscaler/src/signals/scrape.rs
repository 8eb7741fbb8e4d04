//! Fetches the batchers' `/metrics` pages.
//!
//! Pages come from tenants' pods, so none may take more than its share. A page is read in slices while it arrives,
//! beside the threads that keep the Lease and decide: at most two slices at once in the whole program, one at a time
//! of each target, first come first served. So however many bad pods a target has, a slice of another target waits for
//! at most one slice of each target before it. Reading stops at the first refused line, at a limit of
//! [`page`](super::page), and at the timeout.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use futures::stream::{self, StreamExt};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use sluice_scaling_policy::signals::Reading;
use tokio::sync::Semaphore;

use super::page::{PageError, PageReader};
use crate::fetch::{FetchError, Fetcher};

/// Maximum slices that are read at once.
const READERS: usize = 2;
/// Maximum pages of one target that are fetched at once; more wait.
const PAGES_AT_ONCE: usize = 64;
/// Bytes after which a slice is read: about a millisecond of work.
const SLICE_BYTES: usize = 32 << 10;
/// Maximum pieces that a page may arrive in; even a tiny piece costs something.
const MOST_PIECES: usize = 16_384;

/// Reason why a page gave no reading.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScrapeError {
    /// The page could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The page was refused.
    #[error("GET {url}: {error}")]
    Page {
        /// URL of the page.
        url: String,
        error: PageError,
    },
    /// The page is compressed, or encoded in another way.
    #[error(
        "GET {url}: the page has a content-encoding, which was not asked for; is that port another program's?"
    )]
    Encoded {
        /// URL of the page.
        url: String,
    },
    /// The program is ending.
    #[error("GET {url}: the page was not read, because the program ends")]
    Ending {
        /// URL of the page.
        url: String,
    },
}

/// Source of readings.
#[async_trait]
pub(crate) trait Scraper: Send + Sync {
    /// Reads the pages at these URLs, all of one target. Returns their readings of the model in the same order.
    async fn scrape(&self, urls: &[String], model: &str) -> Vec<Result<Reading, ScrapeError>>;
}

/// Scraper over HTTP.
#[derive(Debug, Clone)]
pub(crate) struct HttpScraper {
    fetcher: Fetcher,
    readers: Arc<Semaphore>,
}

impl HttpScraper {
    /// Creates a scraper that gives up on a page after `timeout`.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { fetcher: Fetcher::new(timeout, 0), readers: Arc::new(Semaphore::new(READERS)) }
    }

    async fn page(&self, url: &str, model: &str, of_target: &Arc<Semaphore>) -> Result<Reading, ScrapeError> {
        let response = self.fetcher.open(url).await?;
        if response.headers().contains_key(http::header::CONTENT_ENCODING) {
            return Err(ScrapeError::Encoded { url: url.to_owned() });
        }
        let refused = |error| ScrapeError::Page { url: url.to_owned(), error };
        let mut body = response.into_body();
        let mut reader = PageReader::new(model);
        let mut pieces = 0;
        loop {
            let slice = self.slice(&mut body, url, &mut pieces).await?;
            if slice.is_empty() {
                return reader.finish().map_err(refused);
            }
            if pieces > MOST_PIECES {
                return Err(refused(PageError::TooLarge { of: "pieces to arrive in", cap: MOST_PIECES }));
            }
            reader = self.read(reader, slice, url, of_target).await?.map_err(refused)?;
        }
    }

    /// Returns the next slice; empty at the end of the page.
    async fn slice(&self, body: &mut Incoming, url: &str, pieces: &mut usize) -> Result<Bytes, FetchError> {
        let mut slice = BytesMut::new();
        while slice.len() < SLICE_BYTES && *pieces <= MOST_PIECES {
            let Some(frame) = body.frame().await else { break };
            let frame = frame.map_err(|error| FetchError::broken(url, &error))?;
            *pieces += 1;
            if let Ok(data) = frame.into_data() {
                slice.extend_from_slice(data.chunk());
            }
        }
        Ok(slice.freeze())
    }

    /// Reads a slice on a thread for blocking work.
    async fn read(
        &self,
        mut reader: PageReader,
        slice: Bytes,
        url: &str,
        of_target: &Arc<Semaphore>,
    ) -> Result<Result<PageReader, PageError>, ScrapeError> {
        let ending = || ScrapeError::Ending { url: url.to_owned() };
        let turn = Arc::clone(of_target).acquire_owned().await.map_err(|_| ending())?;
        let thread = Arc::clone(&self.readers).acquire_owned().await.map_err(|_| ending())?;
        let work = tokio::task::spawn_blocking(move || {
            let read = reader.feed(&slice).map(|()| reader);
            // The permits are returned when the work is done, even if its caller has given up.
            drop((turn, thread));
            read
        });
        work.await.map_err(|_| ending())
    }
}

#[async_trait]
impl Scraper for HttpScraper {
    async fn scrape(&self, urls: &[String], model: &str) -> Vec<Result<Reading, ScrapeError>> {
        let of_target = Arc::new(Semaphore::new(1));
        let pages = urls.iter().map(|url| {
            let of_target = &of_target;
            async move {
                let timeout = self.fetcher.timeout();
                match tokio::time::timeout(timeout, self.page(url, model, of_target)).await {
                    Ok(read) => read,
                    Err(_) => {
                        Err(FetchError::Timeout { url: url.clone(), timeout_ms: timeout.as_millis() }.into())
                    }
                }
            }
        });
        stream::iter(pages.collect::<Vec<_>>()).buffered(PAGES_AT_ONCE).collect().await
    }
}

/// Scraper of pages in memory, for tests.
#[cfg(test)]
pub(crate) mod fake {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::*;
    use crate::signals::page::read;

    /// Pages by URL; for any other URL the connection is refused.
    #[derive(Debug, Default)]
    pub(crate) struct FakeScraper {
        pages: Mutex<HashMap<String, String>>,
    }

    impl FakeScraper {
        pub(crate) fn set(&self, url: &str, page: impl Into<String>) {
            self.pages.lock().unwrap().insert(url.to_owned(), page.into());
        }

        pub(crate) fn take_away(&self, url: &str) {
            self.pages.lock().unwrap().remove(url);
        }

        fn page(&self, url: &str, model: &str) -> Result<Reading, ScrapeError> {
            let page = self.pages.lock().unwrap().get(url).cloned();
            let page = page.ok_or_else(|| FetchError::Failed {
                url: url.to_owned(),
                refused: true,
                message: "connection refused".to_owned(),
            })?;
            read(&page, model).map_err(|error| ScrapeError::Page { url: url.to_owned(), error })
        }
    }

    #[async_trait]
    impl Scraper for FakeScraper {
        async fn scrape(&self, urls: &[String], model: &str) -> Vec<Result<Reading, ScrapeError>> {
            urls.iter().map(|url| self.page(url, model)).collect()
        }
    }
}

#[cfg(test)]
mod tests;
