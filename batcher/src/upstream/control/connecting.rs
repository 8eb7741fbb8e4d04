//! Reconnecting to the same server: a question goes over the open connection, or over a new one if that has ended.

use http::Request;
use tokio::time::timeout;

use super::{ANSWER_BYTES, ControlConnection, ControlError, QUESTION_TIMEOUT, connect};
use crate::upstream::connection::{Chunks, Connection, ExchangeError, UpstreamResponse};

impl ControlConnection {
    /// Replaces the connection by a new one to the same server.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn reopen(&mut self) -> Result<(), ControlError> {
        self.ended();
        let connection = self.connect_again().await?;
        self.keeping.opened();
        // A server that serves one connection at a time would wait for a question on this one.
        self.connection = (!self.closes()).then_some(connection);
        Ok(())
    }

    /// Ends the time of identification: from now on the end of a connection to a server on another machine counts as
    /// the end of that server, unless the server is known to close each connection.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn settle(&mut self) -> Result<(), ControlError> {
        let has_ended = self.connection.as_ref().is_none_or(|connection| connection.is_closed());
        if !self.closes() && (self.keeping.is_in_doubt() || has_ended) {
            self.is_ready().await?;
        }
        self.is_settled = true;
        Ok(())
    }

    /// Returns whether the server closes each connection after one answer. Then no connection is opened ahead: a server
    /// that serves one connection at a time would wait for a request on it and answer no other.
    pub fn closes(&self) -> bool {
        self.keeping.closes()
    }

    /// Returns whether only questions can show that the server has gone: it is on another machine and keeps no
    /// connection.
    pub fn is_unwatched(&self) -> bool {
        self.listeners.is_empty() && self.closes()
    }

    /// Tries to connect; returns whether the server refuses the connection.
    pub async fn refuses(&self) -> bool {
        matches!(timeout(QUESTION_TIMEOUT, self.place.endpoint.connect()).await, Ok(Err(_)))
    }

    /// Notes that the connection has ended.
    fn ended(&mut self) {
        if self.connection.take().is_some() {
            self.keeping.ended();
        }
    }

    /// Returns whether a new connection may replace one that has ended: to a server on this machine, whose listener is
    /// checked; to one that closes each connection; or while the server is still being identified.
    fn may_connect_again(&self) -> bool {
        !self.listeners.is_empty() || self.closes() || !self.is_settled
    }

    async fn connect_again(&self) -> Result<Connection, ControlError> {
        let connection = connect(&self.place).await?;
        if self.place.endpoint.listeners() != self.listeners {
            return Err(ControlError::Changed(self.place.endpoint.clone()));
        }
        Ok(connection)
    }

    /// Returns whether the same process still listens there. For a server on another machine: whether the connection is
    /// open, or the server keeps none.
    pub fn still_there(&self) -> bool {
        if self.listeners.is_empty() {
            self.closes() || self.connection.as_ref().is_some_and(|connection| !connection.is_closed())
        } else {
            // The table may change while it is read, so a missing socket is looked for once more.
            (0..2).any(|_| self.place.endpoint.listeners() == self.listeners)
        }
    }

    /// Waits until the model server closes the connection; for ever if no connection is open.
    pub async fn until_closed(&mut self) {
        let Some(connection) = &mut self.connection else { return std::future::pending().await };
        connection.until_closed().await;
        self.ended();
    }

    /// Sends a request over the open connection, or over a new one if that has ended since its last answer.
    pub(super) async fn exchange(
        &mut self,
        mut request: Request<Chunks>,
    ) -> Result<UpstreamResponse, ControlError> {
        // Taken out, so that a connection is not used again if this future is dropped in mid-exchange.
        let kept = self.connection.take();
        if let Some(mut connection) = kept {
            // A connection that breaks at its first question counts as broken by the question, which is not repeated.
            let again = self.keeping.is_used().then(|| request.clone());
            request = match (connection.exchange(request, ANSWER_BYTES).await, again) {
                (Ok(answer), _) => return Ok(self.answered(connection, answer)),
                (Err(ExchangeError::Unsent(unsent)), _) => *unsent,
                (Err(ExchangeError::Broken(_)), Some(again)) => again,
                (Err(error), _) => return Err(error.into()),
            };
            self.keeping.ended();
        }
        if !self.may_connect_again() {
            return Err(ExchangeError::Unsent(Box::new(request)).into());
        }
        self.exchange_anew(request).await
    }

    async fn exchange_anew(&mut self, request: Request<Chunks>) -> Result<UpstreamResponse, ControlError> {
        let mut connection = self.connect_again().await?;
        self.keeping.opened();
        let answer = connection.exchange(request, ANSWER_BYTES).await?;
        Ok(self.answered(connection, answer))
    }

    fn answered(&mut self, connection: Connection, answer: UpstreamResponse) -> UpstreamResponse {
        let is_last = connection.has_ended();
        self.keeping.answered(is_last);
        self.connection = (!is_last && !self.closes()).then_some(connection);
        answer
    }
}
