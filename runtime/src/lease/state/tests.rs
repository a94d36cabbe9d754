//! N candidates, one register, a network that loses, delays and refuses; clocks that run at different rates.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

/// What the network does to one request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Arrives and is answered after these milliseconds each way.
    Fine(u64, u64),
    /// Never arrives.
    Lost,
    /// Arrives after these milliseconds; its answer does not.
    Unanswered(u64),
}

#[derive(Clone, Debug)]
enum Happens {
    /// The candidate's own wait or timeout ends; stale if its turn has moved on.
    Alarm { who: usize, turn: u64, event: Event },
    /// A request reaches the register.
    Arrives { who: usize, turn: u64, request: Option<Claim>, back: Option<u64> },
}

struct Candidate {
    state: LeaseState,
    /// Own milliseconds per thousand true ones.
    rate: u64,
    turn: u64,
    alive: bool,
}

struct World {
    now: u64,
    queue: BTreeMap<(u64, u64), Happens>,
    sequence: u64,
    register: Option<Record>,
    version: u64,
    candidates: Vec<Candidate>,
    fates: Vec<Fate>,
    next_fate: usize,
    calm_from: u64,
}

impl World {
    fn new(rates: &[u64], timing: Timing, fates: Vec<Fate>, calm_from: u64) -> Self {
        let candidate = |(n, rate): (usize, &u64)| Candidate {
            state: LeaseState::new(format!("c{n}"), timing),
            rate: *rate,
            turn: 0,
            alive: true,
        };
        let candidates: Vec<_> = rates.iter().enumerate().map(candidate).collect();
        let mut world = Self {
            now: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            register: None,
            version: 0,
            candidates,
            fates,
            next_fate: 0,
            calm_from,
        };
        for who in 0..rates.len() {
            world.plan(0, Happens::Alarm { who, turn: 0, event: Event::Tick });
        }
        world
    }

    fn plan(&mut self, after: u64, what: Happens) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), what);
    }

    fn own_time(&self, who: usize) -> Duration {
        Duration::from_micros(self.now * self.candidates[who].rate)
    }

    fn true_ms(&self, who: usize, own: Duration) -> u64 {
        u64::try_from(own.as_micros()).unwrap().div_ceil(self.candidates[who].rate).max(1)
    }

    fn fate(&mut self) -> Fate {
        self.next_fate += 1;
        if self.now >= self.calm_from { Fate::Fine(1, 1) } else { self.fates[self.next_fate % self.fates.len()] }
    }

    fn leaders(&self) -> Vec<usize> {
        (0..self.candidates.len()).filter(|&who| self.leads(who)).collect()
    }

    fn leads(&self, who: usize) -> bool {
        self.candidates[who].alive && self.candidates[who].state.leads(self.own_time(who))
    }

    fn step(&mut self, who: usize, event: Event) {
        let (now, jitter) = (self.own_time(who), f64::from(u8::try_from(self.next_fate % 11).unwrap()) / 10.0);
        let candidate = &mut self.candidates[who];
        if !candidate.alive {
            return;
        }
        candidate.turn += 1;
        let turn = candidate.turn;
        let (request, within) = match candidate.state.step(now, event, jitter) {
            Action::Wait(time) => {
                let after = self.true_ms(who, time);
                return self.plan(after, Happens::Alarm { who, turn, event: Event::Tick });
            }
            Action::StepDown => return self.plan(0, Happens::Alarm { who, turn, event: Event::Tick }),
            Action::Stop => {
                self.candidates[who].alive = false;
                return;
            }
            Action::Read(within) => (None, within),
            Action::Write(claim, within) => (Some(claim), within),
        };
        let timeout = self.true_ms(who, within);
        self.plan(timeout, Happens::Alarm { who, turn, event: Event::Failed });
        match self.fate() {
            Fate::Lost => {}
            Fate::Unanswered(there) => self.plan(there, Happens::Arrives { who, turn, request, back: None }),
            Fate::Fine(there, back) => self.plan(there, Happens::Arrives { who, turn, request, back: Some(back) }),
        }
    }

    /// The API server: writes are guarded by the version.
    fn serve(&mut self, request: Option<Claim>) -> Event {
        let Some(claim) = request else { return Event::Read(self.register.clone()) };
        if claim.version != self.register.as_ref().map(|record| record.version.clone()) {
            return Event::Conflict;
        }
        self.version += 1;
        let record = Record {
            version: self.version.to_string(),
            holder: claim.holder,
            lease_duration: claim.lease_duration,
            renewed_micros: i64::try_from(self.now).unwrap(),
            transitions: claim.transitions,
        };
        self.register = Some(record.clone());
        Event::Written(record)
    }

    /// Lets one thing happen.
    fn advance(&mut self) {
        let ((at, _), what) = self.queue.pop_first().expect("a candidate always waits for something");
        self.now = at;
        match what {
            Happens::Alarm { who, turn, event } if self.candidates[who].turn == turn => self.step(who, event),
            Happens::Alarm { .. } => {}
            Happens::Arrives { who, turn, request, back } => {
                let event = self.serve(request);
                if let Some(back) = back {
                    self.plan(back, Happens::Alarm { who, turn, event });
                }
            }
        }
    }

    fn run_until(&mut self, end: u64) {
        while self.queue.keys().next().is_some_and(|(at, _)| *at <= end) {
            self.advance();
        }
        self.now = end;
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        5 => (0u64..300, 0u64..300).prop_map(|(there, back)| Fate::Fine(there, back)),
        2 => (0u64..20_000, 0u64..8_000).prop_map(|(there, back)| Fate::Fine(there, back)),
        2 => Just(Fate::Lost),
        2 => (0u64..20_000).prop_map(Fate::Unanswered),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, rng_seed: RngSeed::Fixed(15_102), ..ProptestConfig::default() })]

    #[test]
    fn there_are_never_two_leaders_and_in_calm_weather_there_is_one(
        rates in proptest::collection::vec(850u64..1150, 2..5),
        fates in proptest::collection::vec(fate(), 1..200),
    ) {
        let calm = 300_000;
        let mut world = World::new(&rates, Timing::default(), fates, calm);
        while world.now < calm + 60_000 {
            world.advance();
            let leaders = world.leaders();
            prop_assert!(leaders.len() <= 1, "at {} ms: {:?}", world.now, leaders);
        }
        prop_assert_eq!(world.leaders().len(), 1);
    }

    #[test]
    fn after_the_leader_is_killed_another_leads_within_the_lease_and_a_look(
        rates in proptest::collection::vec(980u64..1020, 2..5),
        killed_at in 5_000u64..20_000,
    ) {
        let mut world = World::new(&rates, Timing::default(), vec![Fate::Fine(1, 1)], 0);
        world.run_until(killed_at);
        let leader = world.leaders()[0];
        world.candidates[leader].alive = false;
        world.run_until(killed_at + 18_000);
        prop_assert_eq!(world.leaders().len(), 1);
    }

    #[test]
    fn a_leader_that_ends_gives_the_lease_back(rate in 900u64..1100, at in 3_000u64..9_000) {
        let mut world = World::new(&[rate, 1000], Timing::default(), vec![Fate::Fine(1, 1)], 0);
        world.run_until(at);
        let leader = world.leaders()[0];
        world.step(leader, Event::Shutdown);
        prop_assert!(world.leaders().is_empty());
        world.run_until(at + 100);
        let holder = world.register.as_ref().map(|record| record.holder.clone());
        prop_assert_ne!(holder, Some(format!("c{leader}")), "empty, or taken by the other already");
        world.run_until(at + 100 + 2_700);
        prop_assert_eq!(world.leaders(), vec![1 - leader]);
    }
}

/// How many of 200 seeded storms see two leaders at once.
fn storms_with_two_leaders(timing: Timing) -> usize {
    let storm = |seed: u64| {
        let mut noise = seed;
        let mut next = || {
            // Knuth's MMIX generator: the storm is the same on every machine.
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            noise >> 33
        };
        let fates = (0..200).map(|_| if next() % 2 == 0 { Fate::Lost } else { Fate::Fine(next() % 300, next() % 300) });
        let mut world = World::new(&[1000, 1000, 1000], timing, fates.collect(), u64::MAX);
        while world.now < 300_000 {
            world.advance();
            if world.leaders().len() > 1 {
                return true;
            }
        }
        false
    };
    (0..200).filter(|seed| storm(*seed)).count()
}

#[test]
fn the_simulation_sees_two_leaders_where_the_times_leave_no_margin() {
    let careless = Timing { lease_duration: s(6), ..Timing::default() };
    assert!(storms_with_two_leaders(careless) > 0);
    assert_eq!(storms_with_two_leaders(Timing::default()), 0);
}

#[test]
fn a_release_that_meets_our_own_lost_renewal_is_tried_again() {
    let mut state = LeaseState::new("me".to_owned(), Timing::default());
    let ours = |version: &str| Record { holder: "me".to_owned(), ..held_by_other(version) };
    state.step(s(0), Event::Read(None), 0.0);
    state.step(s(0), Event::Written(ours("1")), 0.0);
    assert_eq!(state.step(s(2), Event::Shutdown, 0.0), Action::StepDown);
    let Action::Write(claim, _) = state.step(s(2), Event::Tick, 0.0) else { panic!("must release") };
    assert_eq!((claim.version.as_deref(), claim.holder.as_str()), (Some("1"), ""));
    assert!(matches!(state.step(s(2), Event::Conflict, 0.0), Action::Read(_)));
    let Action::Write(claim, _) = state.step(s(2), Event::Read(Some(ours("2"))), 0.0) else { panic!("must release") };
    assert_eq!((claim.version.as_deref(), claim.holder.as_str()), (Some("2"), ""));
    assert_eq!(state.step(s(2), Event::Written(held_by_other("3")), 0.0), Action::Stop);
}

fn held_by_other(version: &str) -> Record {
    Record {
        version: version.to_owned(),
        holder: "other".to_owned(),
        lease_duration: Duration::from_secs(15),
        renewed_micros: 7,
        transitions: 3,
    }
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_record_is_waited_for_from_when_it_was_first_seen_whatever_its_own_clock_says() {
    let mut state = LeaseState::new("me".to_owned(), Timing::default());
    assert_eq!(state.step(s(100), Event::Tick, 0.0), Action::Read(s(5)));
    assert_eq!(state.step(s(100), Event::Read(Some(held_by_other("1"))), 0.0), Action::Wait(s(2)));
    assert_eq!(state.step(s(114), Event::Read(Some(held_by_other("1"))), 0.0), Action::Wait(s(1)));
    let Action::Write(claim, _) = state.step(s(115), Event::Tick, 0.0) else { panic!("must claim") };
    assert_eq!((claim.version.as_deref(), claim.transitions, claim.acquires), (Some("1"), 4, true));
}

#[test]
fn a_renewal_seen_starts_the_wait_anew() {
    let mut state = LeaseState::new("me".to_owned(), Timing::default());
    state.step(s(0), Event::Read(Some(held_by_other("1"))), 0.0);
    assert_eq!(state.step(s(14), Event::Seen(Some(held_by_other("2"))), 0.0), Action::Wait(s(2)));
    assert!(matches!(state.step(s(16), Event::Tick, 0.0), Action::Read(_)));
}

#[test]
fn a_deleted_lease_is_waited_for_because_its_holder_may_not_know() {
    let mut state = LeaseState::new("me".to_owned(), Timing::default());
    state.step(s(0), Event::Read(Some(held_by_other("1"))), 0.0);
    assert!(matches!(state.step(s(3), Event::Seen(None), 0.0), Action::Wait(_)));
    let Action::Write(claim, _) = state.step(s(15), Event::Tick, 0.0) else { panic!("must create") };
    assert_eq!(claim.version, None);
}

#[test]
fn a_leader_without_renewal_steps_down_at_the_deadline_counted_from_the_send() {
    let mut state = LeaseState::new("me".to_owned(), Timing::default());
    let Action::Write(..) = state.step(s(0), Event::Read(None), 0.0) else { panic!("must create") };
    let ours = Record { holder: "me".to_owned(), ..held_by_other("1") };
    assert_eq!(state.step(s(1), Event::Written(ours), 0.0), Action::Wait(s(1)));
    assert!(state.leads(Duration::from_millis(9_999)) && !state.leads(s(10)));
    assert_eq!(state.step(s(9), Event::Failed, 0.0), Action::Wait(s(1)));
    assert_eq!(state.step(s(10), Event::Tick, 0.0), Action::StepDown);
}

#[test]
fn times_without_a_margin_are_refused() {
    let timing = Timing { renew_deadline: s(15), ..Timing::default() };
    assert_eq!(timing.validate(), Err(TimingError::NoMargin));
    let timing = Timing { retry_period: s(6), ..Timing::default() };
    assert_eq!(timing.validate(), Err(TimingError::NoRetry));
    assert!(Timing::default().validate().is_ok());
}
