use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

fn leaf() -> Leaf {
    Leaf { verdict: Verdict::Drop, hidden_at: Vec::new() }
}

fn of(keys: impl IntoIterator<Item = Key>) -> Lookup {
    let mut lookup = Lookup::new(Family::V4, Protocol::Tcp, Place::Address);
    keys.into_iter().for_each(|key| lookup.set(key, Some(leaf())));
    lookup
}

fn at(address: u32, port: u16) -> Key {
    Key::new(Some(Ipv4Addr::from(address).into()), port)
}

/// Number of rules that a packet meets, and whether one of them is for its frontend.
fn search(lookup: &Lookup, chains: &Chains, key: Key) -> (usize, bool) {
    let holds = |wanted: &Match| match wanted {
        Match::Destination(range) => range.contains(&lookup.address(key)),
        Match::Ports(_, first, last) => (*first..=*last).contains(&key.port),
        _ => panic!("{wanted}"),
    };
    let mut met = 0;
    let Some((_, mut chain)) = lookup.root() else { return (0, false) };
    loop {
        let rule = chains[&chain].iter().inspect(|_| met += 1).find(|rule| rule.matches.iter().all(holds));
        match rule.map(|rule| &rule.verdict) {
            Some(Verdict::Goto(next)) => chain = next.clone(),
            found => return (met, found == Some(&Verdict::Drop)),
        }
    }
}

#[test]
fn every_one_of_ten_thousand_is_found_through_few_rules() {
    let layouts: [(&str, Vec<Key>); 4] = [
        ("addresses in a row", (0..10_000).map(|number| at(0x0a00_0000 + number, 80)).collect()),
        ("ports of one address", (0..10_000).map(|number| at(0xc000_0201, 20_000 + number)).collect()),
        ("ten networks", (0..10_000).map(|number| at((number % 10) << 24 | (number / 10) << 4, 443)).collect()),
        ("anywhere", (0..10_000_u32).map(|number| at(number.wrapping_mul(0x9e37_79b1), 80)).collect()),
    ];
    for (layout, keys) in layouts {
        let lookup = of(keys.iter().copied());
        let chains = lookup.chains();
        let met: Vec<usize> = keys
            .iter()
            .map(|key| {
                let (met, found) = search(&lookup, &chains, *key);
                assert!(found, "{layout}: {key:?}");
                met
            })
            .collect();
        let (most, mean) = (*met.iter().max().unwrap(), met.iter().sum::<usize>() / met.len());
        assert!(most <= 28 && mean <= 17, "{layout}: {most} rules at most, {mean} on average");
        assert!(chains.len() < keys.len() * 3 / 5, "{layout}: {} chains", chains.len());
    }
}

#[test]
fn a_node_port_and_an_address_of_the_other_family_are_found_too() {
    for (place, family, address) in
        [(Place::NodePort, Family::V4, None), (Place::Address, Family::V6, Some("2001:db8::1".parse().unwrap()))]
    {
        let mut lookup = Lookup::new(family, Protocol::Udp, place);
        let keys: Vec<Key> = (30_000..30_100).map(|port| Key::new(address, port)).collect();
        keys.iter().for_each(|key| lookup.set(*key, Some(leaf())));
        let chains = lookup.chains();
        assert!(keys.iter().all(|key| search(&lookup, &chains, *key).1));
        assert!(!search(&lookup, &chains, Key::new(address, 30_100)).1);
    }
}

#[test]
fn the_chains_of_a_frontend_far_from_all_others_are_no_concern_of_theirs() {
    let near = || (0..20).map(|number| at(0x8000_0200 + number, 80));
    let (far, touched) = (at(0, 80), BTreeSet::from([at(0, 80)]));
    let (without, with) = (of(near()), of(near().chain([far])));
    assert_eq!(without.around(&touched), Chains::new());
    assert_eq!(with.around(&touched).len(), 1, "a root above that of the others");
}

fn some_key() -> impl Strategy<Value = Key> {
    // Few bits that can differ, so that keys are near each other as well as far.
    (any::<u32>(), any::<u16>()).prop_map(|(address, port)| at(address & 0xc000_0317, port & 0x0103))
}

proptest! {
    /// The chains that a change is said to touch are all that it does, and nothing is found that is not there.
    #[test]
    fn a_change_touches_the_chains_around_it_alone(
        before in prop::collection::btree_set(some_key(), 0..120),
        changes in prop::collection::vec((some_key(), any::<bool>()), 0..40),
    ) {
        let old = of(before);
        let mut new = old.clone();
        let touched: BTreeSet<Key> = changes.iter().map(|(key, _)| *key).collect();
        for (key, here) in changes {
            new.set(key, here.then(leaf));
        }
        let mut chains = old.chains();
        old.around(&touched).keys().for_each(|name| { chains.remove(name); });
        chains.extend(new.around(&touched));
        prop_assert_eq!(&chains, &new.chains());
        for key in touched {
            prop_assert_eq!(search(&new, &chains, key).1, new.leaves.contains_key(&key));
        }
        // Nothing is in a chain to which no way leads.
        let mut reached: BTreeSet<Name> = BTreeSet::new();
        let mut queue: VecDeque<Name> = new.root().into_iter().map(|(_, name)| name).collect();
        while let Some(name) = queue.pop_front() {
            queue.extend(chains[&name].iter().filter_map(|rule| match &rule.verdict {
                Verdict::Goto(next) => Some(next.clone()),
                _ => None,
            }));
            reached.insert(name);
        }
        prop_assert!(chains.keys().eq(reached.iter()));
    }
}
