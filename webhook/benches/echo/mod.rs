//! The least that a webhook can do: read the review and allow it. What ours is measured beside.

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::{Value, json};

/// Answers every path.
pub(crate) fn router() -> Router {
    Router::new().fallback(post(echo))
}

async fn echo(body: Bytes) -> Result<axum::Json<Value>, (StatusCode, String)> {
    #[derive(serde::Deserialize)]
    struct Review {
        request: Request,
    }
    #[derive(serde::Deserialize)]
    struct Request {
        uid: String,
    }
    let review: Review = serde_json::from_slice(&body)
        .map_err(|error| (StatusCode::BAD_REQUEST, format!("no AdmissionReview: {error}")))?;
    let response = json!({"uid": review.request.uid, "allowed": true});
    Ok(axum::Json(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})))
}
