//! Many Services.

use super::Variant;
use crate::namespace::{Namespace, initial_user_namespace};
use crate::nftables::testing::{Driven, elsewhere, port, service, table};
use portreeve_table::{Applied, ForwardingTable, Integrity, Protocol};
use std::net::Ipv4Addr;
use std::time::Instant;

/// Services with an address and a node port each; one in ten has two Pods here, the others have theirs elsewhere.
fn many(count: usize) -> ForwardingTable {
    let names: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    table(names.iter().enumerate().map(|(number, name)| {
        let address = Ipv4Addr::from(0x0a60_0000 + u32::try_from(number).unwrap()).to_string();
        let ports = if number % 10 == 0 {
            let pods = ["10.244.0.2:80", "10.244.0.3:80"];
            port(Protocol::Tcp, &[&address], 80, 20_000 + u16::try_from(number).unwrap(), &pods)
        } else {
            elsewhere(Protocol::Tcp, &[&address], 80)
        };
        (name.as_str(), service([ports]))
    }))
}

pub(super) fn ten_thousand(variant: Variant) {
    // The buffer for so large a transaction is given to the root of the first user namespace alone.
    let counts: &[usize] = if initial_user_namespace() { &[1, 1_000, 10_000] } else { &[1, 100] };
    for count in counts.iter().copied() {
        let (before, after) = (many(count), many(count + 1));
        let (whole, one, look, back) = Namespace::new().run(move || {
            let mut driven = Driven::by(variant.open(), "eth0");
            let begin = Instant::now();
            assert_eq!(driven.apply(&before).unwrap(), Applied::Replaced);
            let whole = begin.elapsed();
            let begin = Instant::now();
            let Applied::Changed(chains) = driven.apply(&after).unwrap() else { panic!("a step was to be made") };
            let one = begin.elapsed();
            assert!(chains <= 12, "{chains} chains for one Service");
            let begin = Instant::now();
            assert_eq!(driven.integrity(), Integrity::Intact);
            let look = begin.elapsed();
            let begin = Instant::now();
            assert_eq!(driven.read_back(), []);
            (whole, one, look, begin.elapsed())
        });
        eprintln!(
            "{}: {count} Services in {whole:?}, one more in {one:?}, looked after in {look:?}, read back in {back:?}",
            variant.0
        );
    }
}
