//! The real client against servers that misbehave.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use super::*;

const DEMAND: &str = "sluice_batcher_demand_rows_total{model=\"bert\"} 7\n";

/// What a server sends once it was asked, and whether it then waits for ever before it closes.
#[derive(Clone)]
struct Script {
    sends: Vec<u8>,
    and_waits: bool,
}

/// A server that follows the script; how often it was asked, and its URL.
async fn server(script: Script) -> (String, watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let (asked, seen) = watch::channel(0);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (script, asked) = (script.clone(), asked.clone());
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(&script.sends).await;
                asked.send_modify(|times| *times += 1);
                if script.and_waits {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    (url, seen)
}

fn page(head: &str, body: &str) -> Script {
    let length = body.len();
    let sends = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{head}\r\n{body}");
    Script { sends: sends.into_bytes(), and_waits: false }
}

/// One that never ends its page.
fn endless(begin: &str) -> Script {
    let sends = format!("HTTP/1.1 200 OK\r\ncontent-length: 4000000\r\n\r\n{begin}");
    Script { sends: sends.into_bytes(), and_waits: true }
}

/// No test waits for it unless it is about that.
fn patient() -> HttpScraper {
    HttpScraper::new(Duration::from_secs(600))
}

async fn one(scraper: &HttpScraper, script: Script) -> Result<Reading, String> {
    let (url, _) = server(script).await;
    scraper.scrape(&[url], "bert").await.remove(0).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_page_is_read_and_what_is_no_batchers_page_is_refused_with_the_reason() {
    let read = one(&patient(), page("", DEMAND)).await.unwrap();
    assert_eq!(read.demand_rows, Some(7.0));
    let moved = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let bucket = |at: usize| {
        format!("sluice_batcher_request_duration_seconds_bucket{{model=\"bert\",le=\"{at}\"}} 1\n")
    };
    let many: String = (0..59_229).map(bucket).collect();
    for (script, says) in [
        (Script { sends: moved.into(), and_waits: false }, "status 302"),
        (page("content-encoding: gzip\r\n", DEMAND), "content-encoding"),
        (page("", "<html>nginx</html>\n"), "text format"),
        (page("", &many), "256 buckets (the cap)"),
        (page("", DEMAND.trim_end()), "an end of the line"),
        (Script { sends: b"\x16\x03\x01".to_vec(), and_waits: false }, "GET http://"),
        // More of a line than any line has, and the rest never comes.
        (endless(&"x".repeat(40_000)), "16384 bytes in one line"),
    ] {
        let error = one(&patient(), script).await.unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_page_that_trickles_is_given_up_in_its_time_and_in_too_many_pieces() {
    let error = one(&HttpScraper::new(Duration::from_millis(50)), endless(DEMAND)).await.unwrap_err();
    assert!(error.contains("no answer within 50 ms"), "{error}");
    let piece = "1\r\n#\r\n";
    let sends = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}", piece.repeat(20_000));
    let error = one(&patient(), Script { sends: sends.into_bytes(), and_waits: true }).await.unwrap_err();
    assert!(error.contains("16384 pieces"), "{error}");
}

/// The attack of one target's pods: four pages that have begun and do not end, and as many that are too large.
#[tokio::test]
async fn another_target_is_read_while_large_pages_of_one_arrive() {
    let scraper = patient();
    let line = format!("up{{model=\"{}\"}} 1\n", "x".repeat(200));
    let half: String = line.repeat(10_000);
    let mut urls = Vec::new();
    let mut asked = Vec::new();
    for _ in 0..4 {
        let (url, seen) = server(endless(&half)).await;
        urls.push(url);
        asked.push(seen);
    }
    let attacked = tokio::spawn({
        let scraper = scraper.clone();
        async move { scraper.scrape(&urls, "bert").await }
    });
    // Each has sent its two megabytes, which are read by then or wait in buffers.
    for seen in &mut asked {
        seen.wait_for(|times| *times > 0).await.unwrap();
    }
    for _ in 0..20 {
        assert_eq!(one(&scraper, page("", DEMAND)).await.unwrap().demand_rows, Some(7.0));
    }
    assert!(!attacked.is_finished(), "its pages were still arriving");
    attacked.abort();
}

/// Whoever comes with one slice while a target waits with many has its turn after one of them.
#[tokio::test]
async fn a_target_has_one_slice_in_the_queue_however_many_pages_it_has() {
    let scraper = patient();
    let all = scraper.readers.clone().acquire_many_owned(2).await.unwrap();
    let (of_bad, of_good) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1)));
    let before = Arc::new(AtomicUsize::new(0));
    let mut bad = Vec::new();
    let queued = Arc::new(Notify::new());
    for _ in 0..50 {
        let (scraper, of_bad, before) = (scraper.clone(), of_bad.clone(), before.clone());
        let queued = queued.clone();
        bad.push(tokio::spawn(async move {
            queued.notify_one();
            let read =
                scraper.read(PageReader::new("bert"), Bytes::from_static(b"a 1\n"), "u", &of_bad).await;
            before.fetch_add(1, Ordering::SeqCst);
            read.unwrap().unwrap();
        }));
        // In a runtime of one thread the task has come as far as it can before the next is started.
        tokio::task::yield_now().await;
    }
    queued.notified().await;
    let good = tokio::spawn({
        let scraper = scraper.clone();
        async move {
            scraper
                .read(PageReader::new("bert"), Bytes::from_static(b"a 1\n"), "u", &of_good)
                .await
                .unwrap()
                .unwrap();
        }
    });
    tokio::task::yield_now().await;
    assert_eq!(
        of_bad.available_permits(),
        0,
        "one of the fifty waits for a reader, the others for their target"
    );
    drop(all);
    good.await.unwrap();
    assert!(before.load(Ordering::SeqCst) <= 3, "{} went before it", before.load(Ordering::SeqCst));
    for one in bad {
        one.await.unwrap();
    }
}
