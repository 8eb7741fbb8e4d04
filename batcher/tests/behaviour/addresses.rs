//! Names and addresses: model servers by a name in DNS, clients over IPv4 and IPv6.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use sluice_batcher::settings::Role;
use sluice_batcher::with_settings;
use tokio::net::TcpListener;

use crate::client::{get, infer_json};
use crate::model::{Behaviour, Model};
use crate::start::{settings, start, start_at};

#[tokio::test]
async fn a_gateway_serves_the_addresses_of_a_name() {
    let name = "by-name";
    let model = Model::start(name, Behaviour::default()).await;
    let members_dns = Some(format!("localhost:{}", model.address.port()));
    let batcher = start(with_settings!(
        settings(name),
        servers.role = Role::Gateway,
        servers.members_dns = members_dns
    ))
    .await;
    // The name may also have an IPv6 address where no process listens; that must do no harm.
    assert_eq!(infer_json(batcher.front, name, &[4]).await.output("twice"), [8]);
    let upstreams = batcher.upstreams().await;
    let addresses: Vec<_> =
        upstreams["upstreams"].as_array().unwrap().iter().map(|one| &one["address"]).collect();
    assert!(addresses.iter().any(|address| **address == model.upstream()), "{addresses:?}");
}

#[tokio::test]
async fn a_front_port_on_all_ipv6_addresses_takes_ipv4_too() {
    let name = "dual-stack";
    let model = Model::start(name, Behaviour::default()).await;
    let front = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = front.local_addr().unwrap().port();
    let settings = with_settings!(settings(name), servers.upstream = Some(model.upstream()));
    let _batcher = start_at(front, settings).await;
    for host in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))]
    {
        assert_eq!(infer_json(host, name, &[4]).await.output("twice"), [8], "{host}");
        assert_eq!(get(host, "/v2/health/live").await.status, 200);
    }
}
