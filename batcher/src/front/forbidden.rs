//! What clients may not ask of a model server, by the settings.

use http::Request;

use super::Front;
use super::control_paths::{is_allowed, is_control, is_plain};
use super::route::Route;
use crate::queue::Failure;
use crate::settings::ControlPaths;

impl Front {
    /// Returns why a request is refused because of its path.
    pub(super) fn forbidden<B>(&self, route: &Route, request: &Request<B>) -> Option<Failure> {
        let path = request.uri().path();
        let passes = matches!(route, Route::Pass | Route::GrpcOther);
        // The others are known by paths of their own, unless something in these reads as another path.
        if !passes && is_plain(path) {
            return None;
        }
        let settings = self.settings.now();
        let refused = |message: &str| Some(Failure::new(403, message.to_owned()));
        if settings.control_paths == ControlPaths::Refuse
            && is_control(request.method(), path, request.headers())
        {
            return refused(
                "this path controls the model server, which clients may not do here (controlPaths: refuse)",
            );
        }
        if passes && !settings.pass_paths.is_empty() && !is_allowed(path, &settings.pass_paths) {
            return refused("this path is none of those that pass through here (passPaths)");
        }
        None
    }
}
