//! Where an engine does something else than the oracle says, and may. A run fails if one of these is no longer met.

/// Something that an engine does in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Difference {
    Reassembled,
    NoForward,
    AffinityForgotten,
    AffinityAnew,
    Stranded,
    Inherited,
}

impl Difference {
    pub(super) const fn why(self) -> &'static str {
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
                "a flow whose frontend, node address or claim was gone before its Pod went, or in the same moment, can no \
                 longer be told from one of kube-proxy's, and is not ended"
            }
            Self::Inherited => {
                "a flow is known by its frontend, and ends with its Pod for the Service that has the frontend now, \
                 although it came when another had it"
            }
        }
    }
}
