//! Which model servers there are, and how they are called.

use std::path::PathBuf;

use super::table::{Bounds, Setting, settings_group};
use super::{FormSetting, InvalidSetting, Member, OwnHeaders, Role, check_members};
use crate::address::{check_address, unix_path};

settings_group! {
    /// Model servers
    pub struct ServerSettings {
        /// Where the batcher stands: beside one model server, or in front of several.
        ///
        /// `sidecar` or `gateway`.
        role: Role = Role::Sidecar, Setting::new("role").at_start();
        /// Sidecar: address of the model server, HOST:PORT or unix:/PATH.
        ///
        /// Left out where the model server speaks gRPC only.
        upstream: Option<String> = None, Setting::new("upstream").value_name("ADDRESS").at_start();
        /// Sidecar: gRPC port or socket of the model server, where it is another one or the only one.
        ///
        /// `upstreamGrpc` without `upstream`: the model server speaks nothing else.
        upstream_grpc: Option<String> = None, Setting::new("upstreamGrpc").value_name("ADDRESS").at_start();
        /// Gateway: fixed list of model servers, each `{name, address, grpcAddress?}`.
        ///
        /// `grpcAddress` without `address` for servers that speak only gRPC.
        upstreams: Vec<Member> = Vec::new(), Setting::new("upstreams").file_only();
        /// Gateway: file with the model servers, read again when it changes.
        ///
        /// Replace it by a rename, or mount a ConfigMap.
        members: Option<PathBuf> = None, Setting::new("members").value_name("FILE").at_start();
        /// Gateway: DNS name whose addresses are the model servers, as of a headless Service.
        ///
        /// Such as `bert.default.svc.cluster.local.:9000`. A name without addresses empties the membership; a failed lookup
        /// leaves it as it is.
        members_dns: Option<String> = None, Setting::new("membersDns").value_name("NAME:PORT").at_start();
        /// Time between two lookups of `membersDns`.
        members_poll_ms: u64 = 1000,
            Setting::new("membersPollMs").file_only().at_start().bounds(Bounds::AtLeastOne);
        /// Time between two checks of who listens at the model server's port.
        probe_ms: u64 = 250, Setting::new("probeMs").file_only().bounds(Bounds::AtLeastOne);
        /// Maximum number of times that a request is sent again after its connection broke.
        ///
        /// Only breaks with the request alone in its call count: see [Requests that break things](#requests-that-break-things).
        /// Inference is taken to be idempotent; steps of sequences are never sent twice.
        retries: u32 = 2, Setting::new("retries");
        /// Maximum time that a model server may take for one batch.
        ///
        /// After it, a request that is alone in its batch gets 504; several are sent again in parts. A connection may take as
        /// long, and 5 s at most; then nothing was sent, and the request waits again.
        upstream_timeout_ms: u64 = 30_000, Setting::new("upstreamTimeoutMs").bounds(Bounds::AtLeastOne);
        /// Wire format of batches.
        ///
        /// `json`, `binary` or `grpc`. `auto`: binary where the extensions in `GET /v2` list it, else JSON; gRPC where the port
        /// answers no HTTP/1.1 or only a gRPC address is given. A model without V2 metadata whose `/v1/models/{m}` answers is
        /// spoken to in V1 (`batching: off`: one by one).
        upstream_form: FormSetting = FormSetting::Auto, Setting::new("upstreamForm").rewarms();
        /// Headers of the batcher's own questions, warm-up calls and batches, such as an access token.
        ///
        /// A map from name to value. Values are never logged.
        upstream_headers: OwnHeaders = OwnHeaders::default(),
            Setting::new("upstreamHeaders").file_only().rewarms();
    }
}

impl ServerSettings {
    /// Returns the model servers that the settings themselves name.
    pub fn members_of_role(&self) -> Vec<Member> {
        let named = self.upstream.is_some() || self.upstream_grpc.is_some();
        if self.role == Role::Sidecar && named {
            return vec![Member {
                name: "model".to_owned(),
                address: self.upstream.clone().unwrap_or_default(),
                grpc_address: self.upstream_grpc.clone(),
            }];
        }
        self.upstreams.clone()
    }

    /// Counts the ways in which the model servers of a gateway are named.
    fn membership_kinds(&self) -> usize {
        [!self.upstreams.is_empty(), self.members.is_some(), self.members_dns.is_some()]
            .into_iter()
            .filter(|&named| named)
            .count()
    }

    /// Checks that the role and the ways in which model servers are named fit together.
    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        let invalid = |field, problem: &str| Err(InvalidSetting { field, problem: problem.to_owned() });
        match self.role {
            Role::Sidecar if self.upstream.is_none() && self.upstream_grpc.is_none() => {
                return invalid(
                    "upstream",
                    "a sidecar needs the model server's address, such as 127.0.0.1:9000",
                );
            }
            Role::Sidecar if self.membership_kinds() > 0 => {
                return invalid(
                    "role",
                    "upstreams, members and membersDns are for role gateway; a sidecar has one upstream",
                );
            }
            Role::Gateway if self.upstream.is_some() || self.upstream_grpc.is_some() => {
                return invalid("upstream", "is for role sidecar; a gateway has upstreams or members");
            }
            Role::Gateway if self.membership_kinds() != 1 => {
                return invalid(
                    "members",
                    "a gateway needs one of a members file, membersDns and a list of upstreams",
                );
            }
            _ => {}
        }
        if let Some(name) = &self.members_dns {
            let problem = match unix_path(name) {
                Some(_) => Err(format!("{name:?} is no name:port")),
                None => check_address(name),
            };
            problem.or_else(|problem| invalid("membersDns", &problem))?;
        }
        check_members(&self.members_of_role()).or_else(|problem| invalid("upstreams", &problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_has_either_a_file_or_a_list() {
        let gateway = ServerSettings { role: Role::Gateway, ..ServerSettings::default() };
        assert_eq!(gateway.check().unwrap_err().field, "members");
        ServerSettings { members: Some("members.json".into()), ..gateway.clone() }.check().unwrap();
        let by_name = ServerSettings { members_dns: Some("bert.ns.svc:9000".into()), ..gateway.clone() };
        by_name.check().unwrap();
        let both = ServerSettings { members: Some("members.json".into()), ..by_name };
        assert_eq!(both.check().unwrap_err().field, "members");
        for wrong in ["bert.ns.svc", "unix:/run/m.sock"] {
            let error =
                ServerSettings { members_dns: Some(wrong.into()), ..gateway.clone() }.check().unwrap_err();
            assert_eq!(error.field, "membersDns", "{error}");
        }
    }
}
