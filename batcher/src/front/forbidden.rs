//! Requests that clients may not send to a model server, because the settings forbid it or because there are several
//! model servers.

use http::Request;

use super::Front;
use super::control_paths::{is_allowed, is_control, is_plain, message_decides};
use super::route::Route;
use crate::failure::Failure;
use crate::settings::ControlPaths;

impl Front {
    /// Returns the error for a request whose path is forbidden; `None` where it is allowed.
    pub(super) fn forbidden<B>(&self, route: &Route, request: &Request<B>) -> Option<Failure> {
        let path = request.uri().path();
        let passes = matches!(route, Route::Pass | Route::GrpcOther);
        // The other routes have fixed paths, which are allowed unless they can be read as another path.
        if !passes && is_plain(path) {
            return None;
        }
        let settings = self.settings.now();
        let controls = || is_control(request.method(), path, request.headers());
        let refused = |message: &str| Some(Failure::new(403, message.to_owned()));
        if settings.access.control_paths == ControlPaths::Refuse && controls() {
            return refused(
                "this path controls the model server, which clients may not do here (controlPaths: refuse)",
            );
        }
        if passes && !settings.access.pass_paths.is_empty() && !is_allowed(path, &settings.access.pass_paths)
        {
            return refused("this path is not one of those that are passed on here (passPaths)");
        }
        let is_judged_later = *route == Route::GrpcOther && message_decides(path);
        self.refused_change().filter(|_| !is_judged_later && controls())
    }

    /// Returns the error for a call that changes a model server where there are several; `None` where there is one.
    ///
    /// If only one model server got the call, it would differ from the others. If all of them got it, the call could fail
    /// at some, and model servers that start later would miss it.
    pub(super) fn refused_change(&self) -> Option<Failure> {
        let members = self.upstreams.members();
        let message = || {
            format!(
                "this call changes one model server, and there are {members} model servers here: send it to each of them itself (/upstreams on the admin port has their addresses)"
            )
        };
        (members > 1).then(|| Failure::new(501, message()))
    }
}
