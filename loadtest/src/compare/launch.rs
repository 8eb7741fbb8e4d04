//! Start of each peer: command lines, and the files that proxies read.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::environment::{self, Proxy};
use super::peer::Peer;
use super::program::Launch;
use super::scenario::Scenario;
use anyhow::{Result, anyhow};

/// Idle connections that proxies keep to the model: more than any load here has.
const KEEP_ALIVE: usize = 256;

/// Folders of a comparison.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    /// Folder of sluice-loadtest and sluice-batcher.
    pub bin: PathBuf,
    /// Folder of the peers' environments.
    pub cache: PathBuf,
    /// Folder of logs and of the proxies' files.
    pub work: PathBuf,
}

/// Returns the start of the reference model at `address`.
pub(crate) fn model(folders: &Folders, scenario: Scenario, address: SocketAddr, admin: SocketAddr) -> Launch {
    let model = scenario.model();
    Launch::new("model", folders.bin.join("sluice-loadtest"))
        .arg("model")
        .flag("--listen", address)
        .flag("--admin-listen", admin)
        .flag("--alpha-ms", model.alpha_ms)
        .flag("--beta-ms", model.beta_ms)
        .flag("--max-batch-rows", model.max_batch_rows)
        .flag("--log-level", "warn")
}

/// Returns the start of sluice-batcher at `address` in front of `upstream`.
pub(crate) fn sluice(
    folders: &Folders,
    scenario: Scenario,
    batching: bool,
    address: SocketAddr,
    admin: SocketAddr,
    upstream: SocketAddr,
) -> Launch {
    let name = if batching { Peer::Sluice } else { Peer::SluiceOff }.name();
    let launch = Launch::new(name, folders.bin.join("sluice-batcher"))
        .flag("--listen", address)
        .flag("--admin-listen", admin)
        .flag("--upstream", upstream)
        .flag("--models", "reference")
        .flag("--max-batch-rows", scenario.model().max_batch_rows)
        .flag("--objective-ms", scenario.objective_ms().unwrap_or(1000))
        .flag("--log-level", "warn");
    if batching {
        return launch;
    }
    let launch = launch.flag("--batching", "off");
    // A proxy has no slots: it forwards every request at once.
    launch.flag("--slots-per-upstream", KEEP_ALIVE)
}

/// Returns the start of nginx at `address` in front of `upstream`: one worker, connections kept on both sides, no log.
///
/// # Errors
/// Its file could not be written.
pub(crate) fn nginx(
    folders: &Folders,
    proxy: &Proxy,
    address: SocketAddr,
    upstream: SocketAddr,
) -> Result<Launch> {
    let work = folders.work.display();
    let file = format!(
        "daemon off;\nmaster_process off;\npid {work}/nginx.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
           access_log off;\n\
           client_body_temp_path {work}/nginx-body; proxy_temp_path {work}/nginx-proxy; fastcgi_temp_path {work}/nginx-f;\n\
           uwsgi_temp_path {work}/nginx-u; scgi_temp_path {work}/nginx-s;\n\
           upstream model {{ server {upstream}; keepalive {KEEP_ALIVE}; keepalive_requests 100000000; }}\n\
           server {{\n\
             listen {address}; keepalive_requests 100000000; tcp_nodelay on;\n\
             location / {{ proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}\n\
           }}\n\
         }}\n"
    );
    let path = write(&folders.work.join("nginx.conf"), &file)?;
    Ok(with_libraries(Launch::new("nginx", &proxy.program), proxy).arg("-c").arg(path))
}

/// Returns the start of `HAProxy` at `address` in front of `upstream`: one thread, connections kept and shared, no log.
///
/// # Errors
/// Its file could not be written.
pub(crate) fn haproxy(
    folders: &Folders,
    proxy: &Proxy,
    address: SocketAddr,
    upstream: SocketAddr,
) -> Result<Launch> {
    let file = format!(
        "global\n  nbthread 1\n  maxconn 8192\n\
         defaults\n  mode http\n  option http-keep-alive\n  http-reuse always\n\
         \x20 timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         frontend front\n  bind {address}\n  default_backend model\n\
         backend model\n  server model {upstream} pool-max-conn {KEEP_ALIVE}\n"
    );
    let path = write(&folders.work.join("haproxy.cfg"), &file)?;
    Ok(with_libraries(Launch::new("haproxy", &proxy.program), proxy).arg("-db").arg("-f").arg(path))
}

/// Returns the start of a server from PyPI at `address`, with the simulated model inside.
///
/// # Errors
/// When it cannot be installed.
pub(crate) async fn server(
    folders: &Folders,
    python: &Path,
    peer: Peer,
    scenario: Scenario,
    address: SocketAddr,
) -> Result<Launch> {
    let folder = folders.cache.join(peer.name());
    environment::python(peer, &folder, python).await?;
    let model = scenario.model();
    let launch = match peer {
        Peer::Bentoml => Launch::new(peer.name(), folder.join("bin/python"))
            .arg("-m")
            .arg("bentoml")
            .arg("serve")
            .arg("serve:Reference")
            .flag("--host", "127.0.0.1")
            .flag("--port", address.port())
            .arg("--working-dir")
            .arg(&folder)
            .env("BENTOML_DO_NOT_TRACK", "true")
            .env("BENTOML_HOME", folder.join("home")),
        _ => Launch::new(peer.name(), folder.join("bin/python")).arg(folder.join("serve.py")),
    };
    let launch = launch
        .env("COMPARE_PORT", address.port().to_string())
        .env("COMPARE_ALPHA_MS", model.alpha_ms.to_string())
        .env("COMPARE_BETA_MS", model.beta_ms.to_string())
        .env("COMPARE_MAX_BATCH_ROWS", model.max_batch_rows.to_string())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(match scenario.objective_ms() {
        Some(objective_ms) => launch.env("COMPARE_OBJECTIVE_MS", objective_ms.to_string()),
        None => launch,
    })
}

fn with_libraries(launch: Launch, proxy: &Proxy) -> Launch {
    match &proxy.libraries {
        Some(libraries) => launch.env("LD_LIBRARY_PATH", libraries),
        None => launch,
    }
}

fn write(path: &Path, text: &str) -> Result<PathBuf> {
    std::fs::write(path, text).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    Ok(path.to_owned())
}
