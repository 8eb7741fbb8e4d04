//! Fetching a batcher's `/metrics`.

use std::time::Duration;

use async_trait::async_trait;

use crate::fetch::{FetchError, Fetcher};

use super::prometheus_text::{self, Metric, ParseError};

/// A page larger than this is refused.
const MOST_BYTES: usize = 4 << 20;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    /// It could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It is not Prometheus' text format.
    #[error("{url}: {error}")]
    Text {
        /// Whose page.
        url: String,
        /// What is wrong with it.
        error: ParseError,
    },
}

/// Where pages come from.
#[async_trait]
pub trait Scraper: Send + Sync {
    /// The page at `url`.
    async fn scrape(&self, url: &str) -> Result<Vec<Metric>, ScrapeError>;
}

/// Pages over HTTP, each within a time limit.
#[derive(Debug, Clone)]
pub struct HttpScraper {
    fetcher: Fetcher,
}

impl HttpScraper {
    /// Gives up on a page after `timeout`.
    pub fn new(timeout: Duration) -> Self {
        Self { fetcher: Fetcher::new(timeout, MOST_BYTES) }
    }
}

#[async_trait]
impl Scraper for HttpScraper {
    async fn scrape(&self, url: &str) -> Result<Vec<Metric>, ScrapeError> {
        let body = self.fetcher.get_ok(url).await?;
        prometheus_text::parse(&String::from_utf8_lossy(&body))
            .map_err(|error| ScrapeError::Text { url: url.to_owned(), error })
    }
}

/// Pages from memory, for tests of whoever scrapes.
#[cfg(test)]
pub(crate) mod fake {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::*;

    /// Pages by URL; a URL without a page cannot be reached.
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
    }

    #[async_trait]
    impl Scraper for FakeScraper {
        async fn scrape(&self, url: &str) -> Result<Vec<Metric>, ScrapeError> {
            let page = self.pages.lock().unwrap().get(url).cloned();
            let page = page.ok_or_else(|| FetchError::Failed {
                url: url.to_owned(),
                refused: true,
                message: "connection refused".to_owned(),
            })?;
            prometheus_text::parse(&page).map_err(|error| ScrapeError::Text { url: url.to_owned(), error })
        }
    }
}
