//! Messages of the netfilter netlink family, as bytes. Numbers and layouts are those of `linux/netlink.h`,
//! `linux/netfilter/nfnetlink.h` and `linux/netfilter/nf_tables.h`; headers are in the machine's byte order, numbers in
//! attributes in the network's.

const SUBSYSTEM_NFTABLES: u16 = 10;
const HEADER: usize = 16;
const ALIGN: usize = 4;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
/// Set on the type of an attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// Type of a message that carries an errno, zero for an acknowledgement.
const ERROR: u16 = 2;

const BATCH_BEGIN: u16 = 0x10;
const NEW_TABLE: u16 = 0;
const NEW_CHAIN: u16 = 3;
const GET_GENERATION: u16 = 16;

const FAMILY_UNSPECIFIED: u8 = 0;
const FAMILY_INET: u8 = 1;
const HOOK_PREROUTING: u32 = 0;

/// A message under construction; attributes are appended to it.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, sequence: u32, family: u8, resource: u16) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&0_u32.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&0_u32.to_ne_bytes());
        bytes.extend_from_slice(&[family, 0]);
        bytes.extend_from_slice(&resource.to_be_bytes());
        Self(bytes)
    }

    fn nftables(command: u16, flags: u16, sequence: u32, family: u8) -> Self {
        Self::new(SUBSYSTEM_NFTABLES << 8 | command, flags, sequence, family, 0)
    }

    fn with(mut self, kind: u16, payload: &[u8]) -> Self {
        attribute(&mut self.0, kind, payload);
        self
    }

    fn with_text(self, kind: u16, text: &str) -> Self {
        let mut terminated = text.as_bytes().to_vec();
        terminated.push(0);
        self.with(kind, &terminated)
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).expect("invariant: probe messages are tens of bytes long");
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

fn attribute(into: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    let length = u16::try_from(4 + payload.len()).expect("invariant: probe attributes are tens of bytes long");
    into.extend_from_slice(&length.to_ne_bytes());
    into.extend_from_slice(&kind.to_ne_bytes());
    into.extend_from_slice(payload);
    into.resize(into.len().next_multiple_of(ALIGN), 0);
}

/// Asks for the number of the current ruleset: answered by every kernel with nftables, and changes nothing.
pub(crate) fn get_generation() -> Vec<u8> {
    Message::nftables(GET_GENERATION, ACK, 1, FAMILY_UNSPECIFIED).finish()
}

/// A batch that would make an `inet` table with a nat chain at `priority`, without the message that ends a batch: the
/// kernel checks every step, acknowledges it and discards all (`nft --check` does the same).
pub(crate) fn nat_chain_dry_run(table: &str, priority: i32) -> Vec<u8> {
    let mut hook = Vec::new();
    attribute(&mut hook, 1, &HOOK_PREROUTING.to_be_bytes());
    attribute(&mut hook, 2, &priority.to_be_bytes());
    let begin = Message::new(BATCH_BEGIN, 0, 1, FAMILY_UNSPECIFIED, SUBSYSTEM_NFTABLES);
    let make = CREATE | EXCLUSIVE | ACK;
    let new_table = Message::nftables(NEW_TABLE, make, 2, FAMILY_INET).with_text(1, table);
    let new_chain = Message::nftables(NEW_CHAIN, make, 3, FAMILY_INET)
        .with_text(1, table)
        .with_text(3, "probe")
        .with(NESTED | 4, &hook)
        .with_text(7, "nat");
    [begin, new_table, new_chain].into_iter().flat_map(Message::finish).collect()
}

/// One message of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The request of this sequence number succeeded.
    Done { sequence: u32 },
    /// The request of this sequence number failed with this errno.
    Failed { sequence: u32, errno: i32 },
    /// Data.
    Data,
}

/// Splits one datagram of the kernel into its messages. `None` if a length lies.
pub(crate) fn answers(mut bytes: &[u8]) -> Option<Vec<Answer>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        if length < HEADER || length > bytes.len() {
            return None;
        }
        let (kind, sequence) = (u32_at(bytes, 4)?.to_ne_bytes(), u32_at(bytes, 8)?);
        found.push(if u16::from_ne_bytes([kind[0], kind[1]]) == ERROR {
            match i32::from_ne_bytes(u32_at(&bytes[..length], HEADER)?.to_ne_bytes()) {
                0 => Answer::Done { sequence },
                negative => Answer::Failed { sequence, errno: negative.checked_neg()? },
            }
        } else {
            Answer::Data
        });
        bytes = bytes.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
    }
    Some(found)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(sequence: u32, value: i32) -> Vec<u8> {
        let mut bytes = 20_u32.to_ne_bytes().to_vec();
        bytes.extend([ERROR.to_ne_bytes(), 0_u16.to_ne_bytes()].concat());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(value.to_ne_bytes());
        bytes
    }

    #[test]
    fn every_message_of_a_batch_says_its_own_length_and_is_aligned() {
        let batch = nat_chain_dry_run("t", -105);
        let (mut at, mut sequences) = (0, Vec::new());
        while at < batch.len() {
            sequences.push(u32_at(&batch, at + 8).unwrap());
            let length = u32_at(&batch, at).unwrap() as usize;
            assert_eq!(length % ALIGN, 0);
            at += length;
        }
        assert_eq!((at, sequences), (batch.len(), vec![1, 2, 3]));
    }

    #[test]
    fn acknowledgements_and_errors_of_one_datagram_are_told_apart() {
        let datagram = [error(2, 0), error(3, -95)].concat();
        assert_eq!(
            answers(&datagram),
            Some(vec![Answer::Done { sequence: 2 }, Answer::Failed { sequence: 3, errno: 95 }])
        );
    }

    #[test]
    fn a_datagram_with_a_lying_length_or_a_torn_error_is_no_answer() {
        for length in [0_u32, 15, 21, 4096] {
            let mut datagram = error(1, 0);
            datagram[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(answers(&datagram), None, "length {length}");
        }
        let mut torn = error(1, 0);
        torn[..4].copy_from_slice(&16_u32.to_ne_bytes());
        assert_eq!(answers(&torn[..16]), None);
        assert_eq!(answers(&error(1, i32::MIN)), None);
    }
}
