//! Identification of the model server: connects, asks for health and metadata, and later checks whether they are
//! unchanged.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sluice_protocol::WireFormat;

use super::{Monitor, RETRY_MAX};
use crate::upstream::connection::Wire;
use crate::upstream::control::{ControlConnection, ControlError, digest};
use crate::upstream::discovery::{Spoken, form_of};
use crate::upstream::epoch::{EpochEvent, Identity};
use crate::upstream::models::ServedModel;
use crate::upstream::warm_model::Documents;

/// Pause after the first failed attempt; each further failure adds as much.
const RETRY_STEP: Duration = Duration::from_millis(50);

impl<M: ServedModel> Monitor<M> {
    /// Connects and identifies the server.
    pub(super) async fn identify(&mut self) -> EpochEvent {
        let failures = self.state.barrier.failures();
        tokio::time::sleep((RETRY_STEP * failures).min(RETRY_MAX)).await;
        match self.observe().await {
            Ok(Some(identity)) => EpochEvent::Observed(identity),
            Ok(None) => self.failed("it says that it is not ready"),
            Err(error) => self.failed(&error.to_string()),
        }
    }

    fn failed(&mut self, reason: &str) -> EpochEvent {
        self.not_ready(reason, "A model server is not ready.");
        EpochEvent::ConnectFailed
    }

    async fn observe(&mut self) -> Result<Option<Identity>, ControlError> {
        self.state.control = None;
        let settings = self.settings.now();
        let headers = settings.servers.upstream_headers.map();
        let member = &self.upstream.member;
        let (mut control, is_ready) =
            ControlConnection::dial(member, settings.servers.upstream_form, headers).await?;
        self.state.connections += 1;
        if !is_ready {
            return Ok(None);
        }
        let server = control.server_metadata().await?;
        self.state.spoken = match (control.wire(), &member.grpc_address) {
            (Wire::Grpc, other) => {
                Spoken { form: WireFormat::Grpc, http: other.is_some() && !member.is_grpc_only(), grpc: true }
            }
            (Wire::Rest, grpc) => Spoken {
                form: form_of(settings.servers.upstream_form, server.as_deref()),
                http: true,
                grpc: match grpc {
                    Some(address) => ControlConnection::speaks_grpc(address, headers).await,
                    None => false,
                },
            },
        };
        let mut documents = vec![server];
        for model in &settings.models.models {
            documents.push(control.model_metadata(model).await?);
        }
        control.settle().await?;
        self.upstream.closes.store(control.closes(), Ordering::Relaxed);
        let listeners = control.listeners().to_vec();
        let connection = if listeners.is_empty() { self.state.connections } else { 0 };
        self.state.control = Some(control);
        self.state.warmed_with = settings.warmth_digest();
        let settings = self.state.warmed_with;
        Ok(Some(Identity { listeners, connection, metadata: digest(&documents), settings }))
    }

    async fn reconnect(&mut self) -> bool {
        match &mut self.state.control {
            Some(control) => control.reopen().await.is_ok(),
            None => false,
        }
    }

    /// Asks whether health and metadata are unchanged since the epoch was warmed.
    pub(super) async fn answers_as_before(&mut self) -> bool {
        let Some(control) = &mut self.state.control else { return false };
        let known: Vec<(Arc<str>, Documents)> =
            self.state.warm.iter().map(|(model, warm)| (Arc::clone(model), warm.documents.clone())).collect();
        let answers = async {
            if !control.is_ready().await? {
                return Ok(false);
            }
            for (model, before) in &known {
                if !before.are_as_before(control, model).await? {
                    return Ok(false);
                }
            }
            Ok::<_, ControlError>(true)
        };
        match answers.await {
            Ok(same) => same,
            // Closed just now, or too busy to answer: the same server can be asked over a new connection.
            Err(ControlError::Broken(_) | ControlError::Timeout(..))
                if control.still_there() && !control.listeners().is_empty() =>
            {
                self.reconnect().await
            }
            Err(_) => false,
        }
    }
}
