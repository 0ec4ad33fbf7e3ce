//! Faults.
use axum::body::Body;
use axum::http::{Request, Response};
use tower::BoxError;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;
/// Stand-in until merged.
#[derive(Debug, Clone)]
pub struct Faults;
#[allow(missing_docs)]
impl Faults {
    pub fn new() -> Self {
        Self
    }
    pub fn wrap(&self, router: axum::Router) -> BoxCloneSyncService<Request<Body>, Response<Body>, BoxError> {
        BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
            let router = router.clone();
            async move { Ok::<_, BoxError>(router.oneshot(request).await.unwrap_or_else(|never| match never {})) }
        }))
    }
}
#[allow(missing_docs)]
pub fn is_reset(_: &BoxError) -> bool {
    false
}
