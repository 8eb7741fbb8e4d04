//! Timing of simulated text generation. A fixed number of streams run at a time; each has a delay before its first token
//! and one before each token after it. Further streams wait in order of arrival, as in an LLM server that is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

/// Speed and concurrency of simulated generation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GenerationProfile {
    /// Delay from the start of a stream to its first token.
    pub first_token: Duration,
    /// Delay from one token to the next.
    pub token: Duration,
    /// Number of tokens of an answer, unless the request asks for fewer.
    pub tokens: usize,
    /// Maximum number of streams at a time; throughput grows up to here and no further.
    pub concurrency: usize,
}

/// Generator of simulated text.
#[derive(Debug)]
pub(super) struct Generator {
    profile: GenerationProfile,
    room: Arc<Semaphore>,
    started: AtomicU64,
}

/// One answer being generated. Dropping it lets the next one start.
#[derive(Debug)]
pub(super) struct Generation {
    profile: GenerationProfile,
    next: Instant,
    number: u64,
    given: usize,
    tokens: usize,
    _room: Option<OwnedSemaphorePermit>,
}

impl Generator {
    /// Creates a generator without streams.
    pub(super) fn new(profile: GenerationProfile) -> Self {
        Self {
            profile,
            room: Arc::new(Semaphore::new(profile.concurrency.max(1))),
            started: AtomicU64::new(0),
        }
    }

    /// Waits for a free stream and starts an answer of at most `most_tokens` tokens; `None` means the full length.
    pub(super) async fn start(&self, most_tokens: Option<usize>) -> Generation {
        // The semaphore is never closed; if it were, one stream too many would run, which does no harm.
        let room = Arc::clone(&self.room).acquire_owned().await.ok();
        let tokens = most_tokens.unwrap_or(self.profile.tokens).min(self.profile.tokens);
        Generation {
            profile: self.profile,
            next: Instant::now() + self.profile.first_token,
            number: self.started.fetch_add(1, Ordering::Relaxed),
            given: 0,
            tokens,
            _room: room,
        }
    }

    /// Returns the number of tokens of an answer of full length.
    pub(super) fn full_tokens(&self) -> usize {
        self.profile.tokens
    }
}

impl Generation {
    /// Waits until the next token is due and returns its index; `None` after the last.
    pub(super) async fn next(&mut self) -> Option<usize> {
        if self.given == self.tokens {
            return None;
        }
        sleep_until(self.next).await;
        // Due times follow the schedule, so that one late token does not delay the rest.
        self.next += self.profile.token;
        self.given += 1;
        Some(self.given - 1)
    }

    /// Returns the number of this answer, counted from 0.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Returns the total number of tokens of this answer.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: GenerationProfile = GenerationProfile {
        first_token: Duration::from_millis(100),
        token: Duration::from_millis(10),
        tokens: 5,
        concurrency: 2,
    };

    async fn run(generator: &Generator, most_tokens: Option<usize>) -> (usize, Duration) {
        let begun = Instant::now();
        let mut generation = generator.start(most_tokens).await;
        let mut tokens = 0;
        while generation.next().await.is_some() {
            tokens += 1;
        }
        (tokens, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_come_at_their_pace() {
        let generator = Generator::new(PROFILE);
        assert_eq!(run(&generator, None).await, (5, Duration::from_millis(140)));
        assert_eq!(run(&generator, Some(2)).await, (2, Duration::from_millis(110)));
        assert_eq!(run(&generator, Some(100)).await.0, 5);
        assert_eq!(run(&generator, Some(0)).await, (0, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn those_beyond_the_concurrency_wait_inside() {
        let generator = Generator::new(PROFILE);
        let (one, two, three) =
            tokio::join!(run(&generator, None), run(&generator, None), run(&generator, None));
        assert_eq!((one.1, two.1), (Duration::from_millis(140), Duration::from_millis(140)));
        assert_eq!(three.1, Duration::from_millis(280));
    }
}
