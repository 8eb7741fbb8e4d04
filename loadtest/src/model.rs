//! The reference model server: simulated inference behind the real protocol.
//!
//! It speaks the Open Inference Protocol over REST (JSON and binary) and gRPC on one port and executes one
//! batch at a time. Inference is simulated: a batch takes exactly (α + β·rows), scaled by the size of the
//! GPU slice that the environment names, and the response is the `crate::reference` function.
//!
//! | module | what it holds |
//! |---|---|
//! | `settings` | settings and flags |
//! | `profile`, `curve` | pure: compute slices of a profile; how long a batch takes |
//! | `batch`, `call`, `rest_format`, `grpc_format`, `metadata` | pure: requests in, answers out, in each form |
//! | `slot` | the plain thread that executes and keeps time |
//! | `generation`, `openai_http` | simulated generation of text, at a pace of its own, behind OpenAI's completions |
//! | `journal` | what reached the model |
//! | `service` | what the handlers share: the model, its slot, its limits |
//! | `http`, `grpc_http`, `admin` | sockets: front port and admin port |

mod admin;
pub mod batch;
mod body;
mod call;
pub mod curve;
mod generation;
mod grpc_format;
mod grpc_http;
mod http;
mod journal;
mod metadata;
mod openai_http;
mod profile;
pub mod rest_format;
mod service;
pub mod settings;
pub mod slot;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use sluice_config::names::env;
use sluice_process::admin::{self as admin_port, Admin};
use sluice_process::{Readiness, metrics};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use batch::Limits;
use curve::ServiceTime;
use generation::Generator;
use journal::{Journal, JournalError};
use profile::UnknownProfile;
use service::ModelService;
use settings::Settings;
use slot::{Accuracy, ExecutionSlot};

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No slice in the environment.
    #[error(
        "{variable} is not set: a model server runs on a GPU slice, and this names its profile. \
         The slice's driver sets it for a prepared claim; by hand: {variable}=7g.80gb",
        variable = env::PROFILE
    )]
    NoSlice,
    /// A slice that is not understood.
    #[error(transparent)]
    Profile(#[from] UnknownProfile),
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An address cannot be listened on.
    #[error("{setting} {address}: {source}")]
    Listen {
        /// Which setting.
        setting: &'static str,
        address: String,
        source: std::io::Error,
    },
    /// No thread for the slot.
    #[error("thread of the slot: {0}")]
    Thread(#[source] std::io::Error),
}

/// A server whose front port is bound and whose slot runs.
#[derive(Debug)]
pub struct Model {
    listener: TcpListener,
    service: ModelService,
    slot: ExecutionSlot,
    thread: JoinHandle<()>,
    loaded: watch::Sender<bool>,
    load_time: Duration,
}

impl Model {
    /// Binds the front port and starts the slot. `profile` is the value of `SLUICE_PROFILE`, if set.
    ///
    /// # Errors
    /// [`StartError`]: no slice, an unknown one, an unusable journal or address.
    pub async fn bind(settings: &Settings, profile: Option<&str>) -> Result<Self, StartError> {
        let profile = profile.filter(|profile| !profile.is_empty()).ok_or(StartError::NoSlice)?;
        let slices = profile::compute_slices(profile)?;
        let scale = f64::from(settings.reference_compute_slices) / f64::from(slices);
        let journal = settings.journal.as_deref().map(Journal::open).transpose()?;
        let listener = listen("listen", &settings.listen).await?;
        let service = ServiceTime::new(
            settings.curve(),
            scale,
            settings.first_call_ms,
            settings.jitter_pct / 100.0,
            settings.seed,
        );
        let (slot, thread) =
            ExecutionSlot::start(settings.name.clone(), service, journal).map_err(StartError::Thread)?;
        let (loaded, loaded_receiver) = watch::channel(false);
        let limits = Limits { max_batch_rows: settings.max_batch_rows, poison_id: settings.poison_id };
        let model = settings.name.clone();
        let service = ModelService {
            model,
            slot: slot.clone(),
            limits,
            generator: Generator::new(settings.pace()),
            loaded: loaded_receiver,
        };
        let load_time = Duration::from_millis(settings.load_ms);
        tracing::info!(
            address = %display_address(&listener), %profile, scale,
            "Simulated inference: a batch takes (alpha + beta * rows) * scale."
        );
        Ok(Self { listener, service, slot, thread, loaded, load_time })
    }

    /// The front port's address.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The way to the slot: to change the curve, to read the accuracy.
    pub fn slot(&self) -> ExecutionSlot {
        self.slot.clone()
    }

    /// Loads (simulated), serves until `stop`, ends what is in progress, and says how well time was kept.
    pub async fn serve(self, readiness: Readiness, stop: CancellationToken) -> Accuracy {
        let Self { listener, service, slot, thread, loaded, load_time } = self;
        let load = async {
            readiness.set_not_ready("the model is loading (simulated)");
            tokio::time::sleep(load_time).await;
            loaded.send_replace(true);
            readiness.set_ready();
            tracing::info!(load_ms = load_time.as_millis() as u64, "The model is loaded.");
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = http::serve(listener, service, stop) => {}
            () = load => {}
        }
        let stopping = slot.clone();
        let ended = tokio::task::spawn_blocking(move || {
            stopping.stop();
            thread.join().is_ok()
        });
        if !ended.await.unwrap_or(false) {
            tracing::error!("The slot's thread ended by a panic.");
        }
        slot.accuracy()
    }
}

async fn listen(setting: &'static str, address: &str) -> Result<TcpListener, StartError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| StartError::Listen { setting, address: address.to_owned(), source })
}

fn display_address(listener: &TcpListener) -> String {
    listener.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string())
}

/// Why the program ended other than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Metrics or signals cannot be set up.
    #[error("set-up of the process: {0}")]
    Process(String),
}

/// The whole program: front port, admin port, until a signal.
///
/// # Errors
/// [`ProgramError`] when it cannot start.
pub async fn run(settings: Settings, profile: Option<String>) -> Result<(), ProgramError> {
    let process = |error: String| ProgramError::Process(error);
    let stop = sluice_process::shutdown::on_signals().map_err(|error| process(error.to_string()))?;
    let model = Model::bind(&settings, profile.as_deref()).await?;
    let admin_listener = listen("adminListen", &settings.admin_listen).await?;
    tracing::info!(address = %display_address(&admin_listener), "The admin port answers.");
    let readiness = Readiness::default();
    // Before anything resolves a metric: what was resolved without a recorder goes nowhere.
    let metrics = metrics::install(&[]).map_err(process)?;
    let routes = Arc::new(admin::ModelAdmin::new(model.slot()));
    let admin = Admin { metrics, readiness: readiness.clone(), routes };
    let admin = tokio::spawn(admin_port::serve(admin_listener, admin, stop.clone()));
    let accuracy = model.serve(readiness, stop).await;
    if let Err(error) = admin.await {
        tracing::warn!(%error, "The admin port ended early.");
    }
    tracing::info!("{}.", accuracy.sentence());
    Ok(())
}
