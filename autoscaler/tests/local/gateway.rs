//! A gateway that forwards nothing: it follows the members file, and reports each upstream as a real gateway would. The
//! test chooses how long it drains.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::journal::Journal;

#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) members_file: PathBuf,
    pub(crate) admin_url: String,
    /// While set, upstreams that left stay listed as draining.
    pub(crate) holds_drains: Arc<AtomicBool>,
    page: Arc<Mutex<String>>,
    upstreams: Arc<Mutex<BTreeMap<String, (String, &'static str)>>>,
    journal: Journal,
}

impl Gateway {
    pub(crate) async fn start(members_file: &Path, journal: &Journal) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = Self {
            members_file: members_file.to_owned(),
            admin_url: format!("http://{}", listener.local_addr().unwrap()),
            holds_drains: Arc::default(),
            page: Arc::default(),
            upstreams: Arc::default(),
            journal: journal.clone(),
        };
        tokio::spawn(gateway.clone().serve(listener));
        tokio::spawn(gateway.clone().follow());
        gateway
    }

    /// Sets the text that `/metrics` serves from now on.
    pub(crate) fn set_page(&self, page: &str) {
        page.clone_into(&mut self.page.lock().unwrap());
    }

    pub(crate) fn members(&self) -> Vec<(String, String)> {
        let Ok(bytes) = std::fs::read(&self.members_file) else { return Vec::new() };
        let file: Value = serde_json::from_slice(&bytes).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let upstreams = file["upstreams"].as_array().unwrap().iter();
        upstreams.map(|upstream| (text(&upstream["name"]), text(&upstream["address"]))).collect()
    }

    async fn follow(self) {
        loop {
            let members: BTreeMap<String, String> = self.members().into_iter().collect();
            for (name, address) in &members {
                let answers = TcpStream::connect(address).await.is_ok();
                let state = if answers { "ready" } else { "connecting" };
                self.upstreams.lock().unwrap().insert(name.clone(), (address.clone(), state));
            }
            let holds = self.holds_drains.load(Ordering::SeqCst);
            self.upstreams.lock().unwrap().retain(|name, (_, state)| {
                if members.contains_key(name) {
                    return true;
                }
                if *state != "draining" {
                    *state = "draining";
                    self.journal.write(&format!("left {name}"));
                }
                if !holds {
                    self.journal.write(&format!("drained {name}"));
                }
                holds
            });
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn serve(self, listener: TcpListener) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let gateway = self.clone();
            tokio::spawn(async move {
                let mut head = vec![0_u8; 4096];
                let Ok(bytes) = stream.read(&mut head).await else { return };
                let head = String::from_utf8_lossy(&head[..bytes]).into_owned();
                let body = if head.starts_with("GET /upstreams") {
                    gateway.upstreams_json()
                } else {
                    gateway.page.lock().unwrap().clone()
                };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    }

    fn upstreams_json(&self) -> String {
        let upstreams = self.upstreams.lock().unwrap();
        let upstreams: Vec<Value> = upstreams
            .iter()
            .map(|(name, (address, state))| {
                json!({"name": name, "address": address, "state": state, "inflightBatches": 0, "epoch": 1})
            })
            .collect();
        json!({ "upstreams": upstreams }).to_string()
    }
}
