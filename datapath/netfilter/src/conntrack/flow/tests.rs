use super::*;
use proptest::prelude::*;

fn tuple(addresses: [(u16, &[u8]); 2], protocol: u8, ports: [u16; 2]) -> Attributes {
    let [source, destination] = addresses;
    let addresses = Attributes::new().with(source.0, source.1).with(destination.0, destination.1);
    let transport = Attributes::new().with(1, &[protocol]).with(2, &ports[0].to_be_bytes());
    let transport = transport.with(3, &ports[1].to_be_bytes());
    Attributes::new().nested(1, &addresses).nested(2, &transport)
}

/// A flow of 198.51.100.1:5000 to 192.0.2.10:80, translated to 10.244.0.2:8080, of this protocol and status.
fn entry(protocol: u8, status: u32) -> Attributes {
    let original = tuple([(1, &[198, 51, 100, 1]), (2, &[192, 0, 2, 10])], protocol, [5000, 80]);
    let reply = tuple([(1, &[10, 244, 0, 2]), (2, &[198, 51, 100, 1])], protocol, [8080, 5000]);
    Attributes::new().nested(1, &original).nested(2, &reply).number(3, status).number(12, 77)
}

fn read(entry: &Attributes) -> Result<Option<Flow>, Malformed> {
    Flow::read(entry.bytes())
}

#[test]
fn both_directions_of_an_entry_are_one_flow() {
    let flow = read(&entry(17, 0x2e)).unwrap().unwrap();
    let addresses = [flow.client, flow.frontend, flow.pod].map(|end| end.to_string());
    assert_eq!(addresses, ["198.51.100.1:5000", "192.0.2.10:80", "10.244.0.2:8080"]);
    assert_eq!((flow.protocol, flow.answered.to_string()), (Protocol::Udp, "198.51.100.1".into()));
}

#[test]
fn addresses_of_the_other_family_are_read_too() {
    let [client, frontend, pod] = [[1; 16], [2; 16], [3; 16]];
    let original = tuple([(3, &client), (4, &frontend)], 6, [5000, 80]);
    let reply = tuple([(3, &pod), (4, &client)], 6, [8080, 5000]);
    let entry = Attributes::new().nested(1, &original).nested(2, &reply).number(3, 0x20).number(12, 77);
    let flow = read(&entry).unwrap().unwrap();
    assert_eq!((flow.frontend.ip(), flow.pod.ip()), (IpAddr::from(frontend), IpAddr::from(pod)));
    assert_eq!(flow.family(), Family::V6);
}

#[test]
fn what_can_be_none_of_ours_is_passed_over() {
    assert_eq!(read(&entry(6, 0x0e)), Ok(None), "not translated");
    assert_eq!(read(&entry(1, 0x2e)), Ok(None), "ICMP");
    assert_eq!(read(&entry(6, 0x2e).with(18, &[0, 7])), Ok(None), "of a zone");
}

#[test]
fn what_is_missing_or_lies_about_its_length_is_an_error() {
    let whole = entry(6, 0x2e);
    for length in 1..whole.len() {
        assert_eq!(Flow::read(&whole.bytes()[..length]), Err(Malformed), "the first {length} bytes");
    }
    let short = tuple([(1, &[198, 51, 100]), (2, &[192, 0, 2, 10])], 6, [5000, 80]);
    let short = Attributes::new().nested(1, &short).nested(2, &short).number(3, 0x20).number(12, 77);
    assert_eq!(read(&short), Err(Malformed), "an address of three bytes");
    let long = Attributes::new().with(3, &[0; 8]);
    assert_eq!(read(&long), Err(Malformed), "a status of eight bytes");
}

#[test]
fn a_flow_is_named_by_what_it_was_read_from() {
    let flow = read(&entry(6, 0x2e)).unwrap().unwrap();
    let name = flow.name();
    let named = message::attributes(name.bytes()).unwrap();
    let original = tuple([(1, &[198, 51, 100, 1]), (2, &[192, 0, 2, 10])], 6, [5000, 80]);
    assert_eq!(find(&named, ORIGINAL), Some(original.bytes()));
    assert_eq!(find(&named, ID), Some(&[0, 0, 0, 77][..]));
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(at in 0_usize..100, bytes in prop::collection::vec(any::<u8>(), 0..12)) {
        let mut strange = entry(6, 0x2e).bytes().to_vec();
        strange.splice(at..(at + bytes.len()).min(strange.len()), bytes);
        let _: Result<Option<Flow>, Malformed> = Flow::read(&strange);
        let _: Option<Vec<message::Answer>> = message::answers(&strange);
    }
}
