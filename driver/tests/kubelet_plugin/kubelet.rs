//! Stand-in for the kubelet: client of both sockets.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice_kubelet_api::dra::v1::dra_plugin_client::DraPluginClient;
use sluice_kubelet_api::dra::v1::{
    Claim, Device, NodePrepareResourcesRequest, NodeUnprepareResourcesRequest,
};
use sluice_kubelet_api::registration::v1::registration_client::RegistrationClient;
use sluice_kubelet_api::registration::v1::{InfoRequest, PluginInfo, RegistrationStatus};
use sluice_kubelet_api::registration_socket;

/// Time limit of the kubelet for a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(45);

pub(crate) struct Kubelet {
    registration: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Kubelet {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            registration: registration_socket(dir, "gpu.sluice.dev"),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        }
    }

    /// Does what the kubelet does when it discovers a registration socket.
    pub(crate) fn register(&self) -> PluginInfo {
        self.runtime.block_on(async {
            let mut client = RegistrationClient::connect(address(&self.registration)).await.unwrap();
            let info = client.get_info(InfoRequest {}).await.unwrap().into_inner();
            let status = RegistrationStatus { plugin_registered: true, error: String::new() };
            client.notify_registration_status(status).await.unwrap();
            info
        })
    }

    /// Requests the registration as the kubelet does it on the wire: with the percent-encoded path of the socket as
    /// `:authority`. Returns the received bytes once they contain `expected`.
    pub(crate) fn register_by_path(&self, expected: &str) -> std::io::Result<Vec<u8>> {
        let path = self.registration.display().to_string().replace('/', "%2F");
        let field = |first: &[u8], value: &str| {
            [first, &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat()
        };
        let block = [
            vec![0x83, 0x86],
            field(&[0x44], "/pluginregistration.Registration/GetInfo"),
            field(&[0x41], &path),
            field(&[0x5f], "application/grpc"),
            field(&[0x40, 2, b't', b'e'], "trailers"),
        ]
        .concat();
        let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
            let length = u8::try_from(payload.len()).unwrap();
            [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
        };
        // Settings, headers, and an empty message that ends the stream.
        let sent = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, 0, 0, &[]),
            frame(1, 4, 1, &block),
            frame(0, 1, 1, &[0; 5]),
        ]
        .concat();
        let mut stream = std::os::unix::net::UnixStream::connect(&self.registration)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(&sent)?;
        let mut received = Vec::new();
        let mut chunk = [0; 1024];
        while !received.windows(expected.len()).any(|part| part == expected.as_bytes()) {
            match stream.read(&mut chunk)? {
                0 => break,
                n => received.extend_from_slice(&chunk[..n]),
            }
        }
        Ok(received)
    }

    /// Runs `act` while a connection to the DRA socket is open and idle.
    pub(crate) fn while_connected<T>(&self, act: impl FnOnce() -> T) -> T {
        let endpoint = self.register().endpoint;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let client = runtime.block_on(connect(&endpoint)).unwrap();
        let result = act();
        drop(client);
        result
    }

    /// Prepares claim `default/<name>`. The error is that of the claim, or of the connection when the driver dies.
    pub(crate) fn prepare(&self, name: &str) -> Result<Vec<Device>, String> {
        let endpoint = self.register().endpoint;
        self.runtime.block_on(async {
            let mut client = connect(&endpoint).await?;
            let request = NodePrepareResourcesRequest { claims: vec![claim(name)] };
            let response = in_time(client.node_prepare_resources(request)).await?;
            let mut claims = response.into_inner().claims;
            let answer = claims.remove(&format!("{name}-uid")).ok_or("no entry for the claim")?;
            if answer.error.is_empty() { Ok(answer.devices) } else { Err(answer.error) }
        })
    }

    /// Does the same as a kubelet that is killed after `time`.
    pub(crate) fn prepare_until(&self, name: &str, time: Duration) -> Result<(), String> {
        let endpoint = self.register().endpoint;
        self.runtime.block_on(async {
            let mut client = connect(&endpoint).await?;
            let request = NodePrepareResourcesRequest { claims: vec![claim(name)] };
            let call = client.node_prepare_resources(request);
            tokio::time::timeout(time, call).await.map(drop).map_err(|_| "gone".to_owned())
        })
    }

    /// Unprepares claim `default/<name>`.
    pub(crate) fn unprepare(&self, name: &str) -> Result<(), String> {
        let endpoint = self.register().endpoint;
        self.runtime.block_on(async {
            let mut client = connect(&endpoint).await?;
            let request = NodeUnprepareResourcesRequest { claims: vec![claim(name)] };
            let response = in_time(client.node_unprepare_resources(request)).await?;
            let mut claims = response.into_inner().claims;
            let answer = claims.remove(&format!("{name}-uid")).ok_or("no entry for the claim")?;
            if answer.error.is_empty() { Ok(()) } else { Err(answer.error) }
        })
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, tonic::Status>>) -> Result<T, String> {
    let answer =
        tokio::time::timeout(CALL_TIMEOUT, call).await.map_err(|_| "no answer in time".to_owned())?;
    answer.map_err(|status| status.to_string())
}

fn claim(name: &str) -> Claim {
    Claim { namespace: "default".to_owned(), uid: format!("{name}-uid"), name: name.to_owned() }
}

fn address(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

async fn connect(endpoint: &str) -> Result<DraPluginClient<tonic::transport::Channel>, String> {
    DraPluginClient::connect(address(Path::new(endpoint))).await.map_err(|error| error.to_string())
}
