//! Where an engine does something else than the oracle says, and may. A run fails if one of these is no longer met.

/// Something that an engine does in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// Fragments count as the packet that they are parts of.
    Reassembled,
    /// What should be handed to another node is passed on.
    NoForward,
    /// A client chooses again, since its Pod or the time of its binding changed for a while.
    AffinityForgotten,
    /// A client chooses again, since the engine is another one.
    AffinityAnew,
    /// A flow goes on that should have ended.
    Stranded,
    /// A flow ends that should have gone on.
    Inherited,
}

impl Difference {
    /// The reason.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::Reassembled => {
                "the kernel's connection tracking puts fragments together before any rule sees them, so that they are \
                 taken as the whole packet is"
            }
            Self::NoForward => "netfilter hands no flow to another node: it is left to kube-proxy",
            Self::AffinityForgotten => {
                "each Pod remembers its clients, as in kube-proxy, and one that takes no new flows for a while forgets \
                 them; so does one whose Service has another timeout"
            }
            Self::AffinityAnew => {
                "an engine that begins makes its table anew without reading the old one, and bound clients choose again"
            }
            Self::Stranded => {
                "a flow whose frontend, node address or claim was gone before an engine began, or has another Service's \
                 Pods behind it by now, can no longer be told from one of theirs or kube-proxy's, and is not ended"
            }
            Self::Inherited => {
                "a flow is known by its frontend, and ends with its Pod for the Service that has the frontend now, \
                 although it came when another had it"
            }
        }
    }
}
