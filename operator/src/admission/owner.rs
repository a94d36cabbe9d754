//! Who owns the webhook configurations: the ClusterRole of the installation.
//!
//! Deleting the installation deletes the ClusterRole, and the garbage collector then removes the configurations, also
//! those that an operator on its way out wrote last. `blockOwnerDeletion` is not set: it would need rights on the
//! ClusterRole's finalizers, and nothing has to wait for the configurations.

use crate::api_error;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Api, Client};
use portreeve_crds::names;
use thiserror::Error;

/// The owner, as far as one could be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The ClusterRole [`names::OPERATOR`] with this UID.
    ClusterRole { uid: String },
    /// There is no such ClusterRole: the operator runs outside an installation.
    Nobody,
}

/// Why no owner can be named.
#[derive(Debug, Error)]
pub(crate) enum OwnerError {
    /// What was written now, nobody would remove.
    #[error("the ClusterRole that owns them is gone: the installation is being removed")]
    Gone,
    #[error("the ClusterRole that owns them cannot be read: {0}")]
    Read(#[source] kube::Error),
}

impl OwnerError {
    /// The API server's answer, if that is what went wrong.
    pub(crate) const fn cause(&self) -> Option<&kube::Error> {
        match self {
            Self::Gone => None,
            Self::Read(error) => Some(error),
        }
    }
}

/// Looks for the owner; `known` is what the last look found. Client required.
pub(crate) async fn find(client: &Client, known: Option<&Owner>) -> Result<Owner, OwnerError> {
    let api: Api<ClusterRole> = Api::all(client.clone());
    let answer = api.get_metadata(names::OPERATOR).await;
    let found = read(known, answer.map(|role| role.metadata.uid.unwrap_or_default()))?;
    if found == Owner::Nobody && known.is_none() {
        let name = names::OPERATOR;
        tracing::info!(name, "No such ClusterRole: webhook configurations have no owner and outlive this operator");
    }
    Ok(found)
}

fn read(known: Option<&Owner>, answer: Result<String, kube::Error>) -> Result<Owner, OwnerError> {
    match (answer, known) {
        (Ok(uid), _) => Ok(Owner::ClusterRole { uid }),
        (Err(error), Some(Owner::ClusterRole { .. })) if api_error::is_not_found(&error) => Err(OwnerError::Gone),
        (Err(error), _) if api_error::is_not_found(&error) => Ok(Owner::Nobody),
        (Err(error), _) => Err(OwnerError::Read(error)),
    }
}

impl Owner {
    /// Whether the object's owners are as they should be. Without an owner of ours any will do.
    pub(crate) fn owns(&self, metadata: &ObjectMeta) -> bool {
        match self {
            Self::Nobody => true,
            Self::ClusterRole { uid } => metadata.owner_references.as_deref() == Some(&[reference(uid)]),
        }
    }

    /// Makes this the object's one owner: the garbage collector removes an object only when all of its owners are gone.
    pub(crate) fn mark(&self, metadata: &mut ObjectMeta) {
        match self {
            Self::Nobody => {}
            Self::ClusterRole { uid } => metadata.owner_references = Some(vec![reference(uid)]),
        }
    }
}

fn reference(uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "rbac.authorization.k8s.io/v1".to_owned(),
        kind: "ClusterRole".to_owned(),
        name: names::OPERATOR.to_owned(),
        uid: uid.to_owned(),
        controller: None,
        block_owner_deletion: None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Owner, OwnerError, read};
    use serde_json::json;

    fn refused(code: u16) -> Result<String, kube::Error> {
        let status = json!({"status": "Failure", "message": "", "reason": "", "code": code});
        Err(kube::Error::Api(Box::new(serde_json::from_value(status).unwrap())))
    }

    #[test]
    fn an_owner_that_was_there_and_is_gone_stops_the_writing() {
        let installed = Owner::ClusterRole { uid: "u".to_owned() };
        assert!(matches!(read(Some(&installed), refused(404)), Err(OwnerError::Gone)));
        assert!(matches!(read(None, refused(404)), Ok(Owner::Nobody)));
        assert!(matches!(read(Some(&Owner::Nobody), refused(404)), Ok(Owner::Nobody)));
    }

    #[test]
    fn a_role_made_anew_is_the_owner_and_a_refusal_is_not_an_absence() {
        let anew = Owner::ClusterRole { uid: "w".to_owned() };
        for known in [None, Some(Owner::Nobody), Some(Owner::ClusterRole { uid: "u".to_owned() })] {
            assert_eq!(read(known.as_ref(), Ok("w".to_owned())).unwrap(), anew);
            assert!(matches!(read(known.as_ref(), refused(403)), Err(OwnerError::Read(_))));
        }
    }
}
