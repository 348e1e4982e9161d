//! Machines seal when they should, never twice on one parent, and a network of them goes on whatever gets lost.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use alloy_primitives::{Address, B256};
use lightstreams_chain::{
    Ancestry, Block, Clique, ForkChoice, GuardedSigner, HeadInfo, Header, HeaderRules, LocalSigner,
    MemoryGuard, Signer,
    consensus::{CliqueMachine, ConsensusMachine, DevMachine, Input, Output, Pacing},
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

use crate::headers::{Headers, authority, clique, genesis_header};

const START_MS: u64 = 1_000_000;
const PACE: Pacing = Pacing { block_period_ms: 1_000, empty_block_ms: Some(1_000) };

/// One node: headers, a machine, and a guarded key. Its blocks are empty.
struct Node {
    rules: Arc<Clique>,
    headers: Headers,
    head: HeadInfo,
    final_number: u64,
    machine: Box<dyn ConsensusMachine>,
    signer: GuardedSigner<LocalSigner, MemoryGuard>,
    pending: bool,
    timer_ms: Option<u64>,
    record: Option<Vec<u8>>,
}

impl Node {
    fn new(name: &str, signers: &[Address], pacing: Pacing) -> Self {
        let rules = Arc::new(clique(0, pacing.block_period_ms));
        let mut headers = Headers::default();
        let mut genesis = genesis_header(signers);
        genesis.timestamp = START_MS / 1_000;
        let head = headers.insert(genesis);
        let machine = Box::new(CliqueMachine::new(rules.clone(), pacing));
        let signer = GuardedSigner::new(authority(name), MemoryGuard::default());
        Self {
            rules,
            headers,
            head,
            final_number: 0,
            machine,
            signer,
            pending: false,
            timer_ms: None,
            record: None,
        }
    }

    fn head_input(&self, now_ms: u64) -> Input {
        Input::Head {
            now_ms,
            head: Box::new(self.head.clone()),
            snapshot: self.rules.snapshot(&self.head, &self.headers).ok(),
            final_number: self.final_number,
            pending: self.pending,
        }
    }

    /// Runs `input` and what follows from it here; gives the blocks to be announced.
    fn run(&mut self, input: Input) -> Vec<Block> {
        let mut announced = Vec::new();
        let mut inputs = vec![input];
        while let Some(input) = (!inputs.is_empty()).then(|| inputs.remove(0)) {
            let now_ms = time_of(&input);
            for output in self.machine.step(input, &self.signer) {
                match output {
                    Output::Timer { at_ms } => self.timer_ms = Some(at_ms),
                    Output::Build { parent, author, now_ms } => {
                        let block = self.build(parent, author, now_ms).map(Box::new);
                        inputs.push(Input::Built { now_ms, block });
                    }
                    Output::Persist { record } => {
                        self.record = Some(record);
                        inputs.push(Input::Persisted { now_ms });
                    }
                    Output::Import(block) => {
                        let hash = block.header.hash_slow();
                        let accepted = self.import(&block.header, now_ms);
                        inputs.push(Input::Imported { now_ms, hash, accepted });
                        inputs.push(self.head_input(now_ms));
                    }
                    Output::Broadcast(block) => announced.push(*block),
                    Output::Alarm { .. } => {}
                    other => panic!("unknown output {other:?}"),
                }
            }
        }
        announced
    }

    fn build(&self, parent: B256, author: Address, now_ms: u64) -> Option<Block> {
        let parent = self.headers.get(&parent);
        let mut header = Header {
            parent_hash: parent.hash,
            number: parent.number() + 1,
            gas_limit: parent.header.gas_limit,
            ..Header::default()
        };
        self.rules.prepare(&mut header, &parent, author, &self.headers, now_ms / 1_000).ok()?;
        Some(Block::uncle(header))
    }

    fn import(&mut self, header: &Header, now_ms: u64) -> bool {
        let Ok(Some(parent)) = self.headers.header(&header.parent_hash) else { return false };
        if self.rules.verify_header(header, &parent, &self.headers, now_ms / 1_000).is_err() {
            return false;
        }
        let new = self.headers.insert(header.clone());
        if self.rules.compare(&new, &self.head, &self.headers).unwrap() == Ordering::Greater {
            self.head = new;
            let number = self.rules.final_number(&self.head, self.final_number, &self.headers).unwrap();
            self.final_number = self.final_number.max(number);
        }
        true
    }

    /// Runs alone until `end_ms`; gives the (time, number) of each block it made.
    fn run_alone(&mut self, mut now_ms: u64, end_ms: u64) -> Vec<(u64, u64)> {
        let mut made = Vec::new();
        let mut blocks = self.run(self.head_input(now_ms));
        loop {
            made.extend(blocks.drain(..).map(|block| (now_ms, block.header.number)));
            match self.timer_ms.take() {
                Some(at_ms) if at_ms <= end_ms => now_ms = now_ms.max(at_ms),
                _ => return made,
            }
            blocks = self.run(Input::Tick { now_ms });
        }
    }
}

fn time_of(input: &Input) -> u64 {
    match input {
        Input::Tick { now_ms }
        | Input::Head { now_ms, .. }
        | Input::PoolChanged { now_ms, .. }
        | Input::Built { now_ms, .. }
        | Input::Persisted { now_ms }
        | Input::Restored { now_ms, .. }
        | Input::Imported { now_ms, .. } => *now_ms,
        _ => 0,
    }
}

fn addresses(names: &[String]) -> Vec<Address> {
    let mut addresses: Vec<Address> = names.iter().map(|name| authority(name).address()).collect();
    addresses.sort();
    addresses
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("node {i}")).collect()
}

fn alone(pacing: Pacing) -> Node {
    Node::new("A", &[authority("A").address()], pacing)
}

/// At a node: a block that another one told of, or nothing but a tick.
type Happening = (usize, Option<(usize, B256)>);

/// What a network came to: heads, final numbers, and how many blocks were ever announced.
type EndState = (Vec<(u64, B256)>, Vec<u64>, usize);

/// Runs `n` authorities for `secs` seconds. In the first half messages are late, lost, or cut by a partition that
/// changes; in the second half they arrive within 300 ms.
fn simulate(n: usize, secs: u64, seed: u64) -> EndState {
    let mut rng = StdRng::seed_from_u64(seed);
    let names = names(n);
    let signers = addresses(&names);
    let mut nodes: Vec<Node> = names.iter().map(|name| Node::new(name, &signers, PACE)).collect();
    // By time, then by order.
    let mut events: BTreeMap<(u64, u64), Happening> = BTreeMap::new();
    let mut order = 0;
    let (half_ms, end_ms) = (START_MS + secs * 500, START_MS + secs * 1_000);
    let mut sealed: HashMap<(Address, u64, B256), B256> = HashMap::new();
    let mut announced = 0;
    let mut side: Vec<bool> = vec![false; n];
    let mut partition_until = 0;
    for node in 0..n {
        events.insert((START_MS + u64::try_from(node).unwrap(), order), (node, None));
        order += 1;
    }
    events.insert((half_ms, order), (0, None));
    let mut started = vec![false; n];
    let mut met = false;
    while let Some(((now_ms, _), (at, message))) = events.pop_first() {
        if now_ms > end_ms {
            break;
        }
        let input = match message {
            None if !started[at] => {
                started[at] = true;
                nodes[at].head_input(now_ms)
            }
            None => Input::Tick { now_ms },
            Some((from, hash)) => {
                let before = nodes[at].head.hash;
                fetch(&mut nodes, from, at, hash, now_ms);
                if nodes[at].head.hash == before {
                    continue;
                }
                nodes[at].head_input(now_ms)
            }
        };
        let blocks = nodes[at].run(input);
        if let Some(at_ms) = nodes[at].timer_ms.take() {
            events.insert((at_ms.max(now_ms), order), (at, None));
            order += 1;
        }
        for block in blocks {
            announced += 1;
            let hash = block.header.hash_slow();
            let author = nodes[at].rules.author(&block.header).unwrap();
            let twin = sealed.insert((author, block.header.number, block.header.parent_hash), hash);
            assert!(twin.is_none(), "seed {seed}: {author} sealed twice on one parent");
            if now_ms < half_ms && now_ms >= partition_until {
                partition_until = now_ms + rng.random_range(500..15_000);
                side.iter_mut().for_each(|side| *side = rng.random_bool(0.4));
            }
            for to in (0..n).filter(|to| *to != at) {
                let bad = now_ms < half_ms;
                if bad && (side[to] != side[at] || rng.random_bool(0.1)) {
                    continue;
                }
                let delay = if bad { rng.random_range(10..3_000) } else { rng.random_range(10..300) };
                events.insert((now_ms + delay, order), (to, Some((at, hash))));
                order += 1;
            }
        }
        // Once messages arrive, everybody hears of everybody's head, as peers do when they connect.
        if now_ms >= half_ms && !met {
            met = true;
            for (from, to) in (0..n).flat_map(|from| (0..n).map(move |to| (from, to))).filter(|(a, b)| a != b)
            {
                let hash = nodes[from].head.hash;
                events.insert((now_ms + rng.random_range(10..300), order), (to, Some((from, hash))));
                order += 1;
            }
        }
    }
    let heads = nodes.iter().map(|node| (node.head.number(), node.head.hash)).collect();
    (heads, nodes.iter().map(|node| node.final_number).collect(), announced)
}

/// Node `to` takes block `hash` and the ancestors it lacks from node `from`.
fn fetch(nodes: &mut [Node], from: usize, to: usize, hash: B256, now_ms: u64) {
    let mut path = vec![nodes[from].headers.get(&hash).header];
    while nodes[to].headers.header(&path.last().unwrap().parent_hash).unwrap().is_none() {
        let parent = path.last().unwrap().parent_hash;
        path.push(nodes[from].headers.get(&parent).header);
    }
    for header in path.iter().rev() {
        nodes[to].import(header, now_ms);
    }
}

#[test]
fn a_network_goes_on_after_any_partition_and_agrees_on_what_is_final() {
    let seeds = std::env::var("LIGHTSTREAMS_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(4);
    for n in [2, 3, 4, 5, 8, 9] {
        for seed in 0..seeds {
            let seed = seed * 100 + u64::try_from(n).unwrap();
            let (heads, finals, _) = simulate(n, 120, seed);
            let (low, high) = (
                heads.iter().map(|head| head.0).min().unwrap(),
                heads.iter().map(|head| head.0).max().unwrap(),
            );
            assert!(low >= 55, "seed {seed}, {n} authorities: stuck at {heads:?}");
            assert!(high - low <= 2, "seed {seed}, {n} authorities: heads far apart {heads:?}");
            let newest_final = finals.iter().max().unwrap();
            assert!(
                high - newest_final <= 12,
                "seed {seed}, {n} authorities: final {finals:?}, heads {heads:?}"
            );
        }
    }
}

#[test]
fn one_seed_gives_one_history() {
    assert_eq!(simulate(5, 60, 7), simulate(5, 60, 7));
    assert_ne!(simulate(5, 60, 7), simulate(5, 60, 8));
}

#[test]
fn a_lone_authority_keeps_the_period_without_drift() {
    for (period_ms, expected) in [(1_000, 20), (2_000, 10), (250, 80), (1_500, 13)] {
        let mut node = alone(Pacing { block_period_ms: period_ms, empty_block_ms: Some(period_ms) });
        let made = node.run_alone(START_MS, START_MS + 20_000);
        assert_eq!(made.len(), expected, "{period_ms} ms: {made:?}");
        for pair in made.windows(2) {
            assert!(pair[1].0 - pair[0].0 >= period_ms.min(1_000), "{period_ms} ms: {pair:?}");
        }
    }
}

#[test]
fn empty_blocks_are_spaced_and_a_transaction_does_not_wait_for_them() {
    let pacing = Pacing { block_period_ms: 1_000, empty_block_ms: Some(10_000) };
    let mut node = alone(pacing);
    assert_eq!(node.run_alone(START_MS, START_MS + 9_999), []);
    let mut node = alone(pacing);
    assert_eq!(node.run_alone(START_MS, START_MS + 10_000).len(), 1);
    node.pending = true;
    let block = node.run(Input::PoolChanged { now_ms: START_MS + 11_000, pending: true });
    assert_eq!(block.len(), 1);
}

#[test]
fn without_a_pace_for_empty_blocks_none_is_sealed() {
    let mut node = alone(Pacing { block_period_ms: 0, empty_block_ms: None });
    assert_eq!(node.run_alone(START_MS, START_MS + 1_000_000), []);
    assert!(node.timer_ms.is_none());
}

#[test]
fn an_authority_that_signed_recently_waits_for_others() {
    let names = names(3);
    let mut node = Node::new(&names[0], &addresses(&names), PACE);
    assert_eq!(node.run_alone(START_MS, START_MS + 100_000).len(), 1);
}

#[test]
fn who_is_out_of_turn_waits_for_each_who_comes_before() {
    let mut names = names(4);
    names.sort_by_key(|name| authority(name).address());
    let signers = addresses(&names);
    // Block 1 is the turn of index 1; then come 2, 3 and 0, half a second after each other.
    for (index, delay_ms) in [(1, 0), (2, 500), (3, 1_000), (0, 1_500)] {
        let mut node = Node::new(&names[index], &signers, PACE);
        let made = node.run_alone(START_MS, START_MS + 10_000);
        assert_eq!(made, [(START_MS + 1_000 + delay_ms, 1)], "index {index}");
    }
}

#[test]
fn a_stranger_never_seals() {
    let mut node = Node::new("stranger", &[authority("A").address()], PACE);
    assert_eq!(node.run_alone(START_MS, START_MS + 100_000), []);
}

#[test]
fn a_crash_between_persisting_and_importing_leads_to_the_same_block() {
    let mut node = alone(PACE);
    let mut outputs = node.machine.step(node.head_input(START_MS + 1_000), &node.signer);
    let Some(Output::Build { parent, author, now_ms }) = outputs.pop() else { panic!("{outputs:?}") };
    let block = node.build(parent, author, now_ms).map(Box::new);
    let mut outputs = node.machine.step(Input::Built { now_ms, block }, &node.signer);
    let Some(Output::Persist { record }) = outputs.pop() else { panic!("{outputs:?}") };
    let mut outputs = node.machine.step(Input::Persisted { now_ms }, &node.signer);
    let Some(Output::Import(signed)) = outputs.pop() else { panic!("{outputs:?}") };

    // The process ends here. Only the record and the guard survive.
    node.machine = Box::new(CliqueMachine::new(node.rules.clone(), PACE));
    let later_ms = now_ms + 60_000;
    let restored = |node: &mut Node, record: Vec<u8>| {
        let mut first = node.machine.step(node.head_input(START_MS), &node.signer);
        first.extend(node.machine.step(Input::Restored { now_ms: later_ms, record }, &node.signer));
        first
    };
    let outputs = restored(&mut node, record);
    assert!(outputs.contains(&Output::Import(signed)), "{outputs:?}");

    // Without the record the guard refuses another block on this parent.
    node.machine = Box::new(CliqueMachine::new(node.rules.clone(), PACE));
    assert!(restored(&mut node, vec![0xff; 9]).iter().all(|output| !matches!(output, Output::Import(_))));
    assert!(node.run(Input::Tick { now_ms: later_ms }).is_empty());
    assert_eq!(node.head.number(), 0);
}

#[test]
fn votes_are_cast_only_as_proposed_and_never_to_end_the_chain() {
    let added = authority("B").address();
    let mut node = alone(PACE);
    node.run(Input::Propose { address: authority("A").address(), authorize: false });
    node.run_alone(START_MS, START_MS + 3_000);
    assert_eq!(node.rules.snapshot(&node.head, &node.headers).unwrap().signers.len(), 1);
    node.run(Input::Propose { address: added, authorize: true });
    node.run_alone(START_MS + 3_000, START_MS + 5_000);
    assert!(node.rules.snapshot(&node.head, &node.headers).unwrap().signers.contains(&added));
    node.run(Input::Discard { address: added });
}

#[test]
fn a_block_on_another_head_is_thrown_away() {
    let mut node = alone(PACE);
    let outputs = node.machine.step(node.head_input(START_MS + 1_000), &node.signer);
    let [Output::Build { parent, author, now_ms }] = outputs[..] else { panic!("{outputs:?}") };
    let block = node.build(parent, author, now_ms).map(Box::new);
    // Meanwhile another block became the head.
    let other = node.build(parent, author, now_ms + 1_000).unwrap();
    node.head = node.headers.insert(other.header);
    node.machine.step(
        Input::Head {
            now_ms,
            head: Box::new(node.head.clone()),
            snapshot: None,
            final_number: 0,
            pending: false,
        },
        &node.signer,
    );
    assert_eq!(node.machine.step(Input::Built { now_ms, block }, &node.signer), []);
    assert_eq!(node.machine.step(Input::Persisted { now_ms }, &node.signer), []);
}

#[test]
fn a_chain_that_cannot_build_is_asked_again_later() {
    let mut node = alone(PACE);
    let now_ms = START_MS + 1_000;
    node.machine.step(node.head_input(now_ms), &node.signer);
    let outputs = node.machine.step(Input::Built { now_ms, block: None }, &node.signer);
    assert_eq!(outputs, [Output::Timer { at_ms: now_ms + 1_000 }]);
    let outputs = node.machine.step(Input::Tick { now_ms: now_ms + 1_000 }, &node.signer);
    assert!(matches!(outputs[..], [Output::Build { .. }]));
}

#[test]
fn dev_seals_a_transaction_at_once() {
    let mut node = alone(Pacing { block_period_ms: 0, empty_block_ms: None });
    node.machine =
        Box::new(DevMachine::new(node.rules.clone(), Pacing { block_period_ms: 0, empty_block_ms: None }));
    assert!(node.run(node.head_input(START_MS)).is_empty());
    let mut outputs = node.machine.step(Input::PoolChanged { now_ms: START_MS, pending: true }, &node.signer);
    let Some(Output::Build { parent, author, now_ms }) = outputs.pop() else { panic!("{outputs:?}") };
    let block = node.build(parent, author, now_ms).map(Box::new);
    let outputs = node.machine.step(Input::Built { now_ms, block }, &node.signer);
    assert!(matches!(outputs[..], [Output::Import(_)]), "{outputs:?}");
}

#[test]
fn nothing_more_is_built_on_a_parent_that_was_sealed_on() {
    for pacing in [PACE, Pacing { block_period_ms: 0, empty_block_ms: None }] {
        let mut node = alone(pacing);
        node.pending = true;
        let now_ms = START_MS + 5_000;
        let mut outputs = node.machine.step(node.head_input(now_ms), &node.signer);
        let Some(Output::Build { parent, author, now_ms }) = outputs.pop() else { panic!("{outputs:?}") };
        let block = node.build(parent, author, now_ms).map(Box::new);
        node.machine.step(Input::Built { now_ms, block }, &node.signer);
        let mut outputs = node.machine.step(Input::Persisted { now_ms }, &node.signer);
        let Some(Output::Import(block)) = outputs.pop() else { panic!("{outputs:?}") };
        // The chain has the block, and says so before it tells of its new head.
        let hash = block.header.hash_slow();
        let outputs = node.machine.step(Input::Imported { now_ms, hash, accepted: true }, &node.signer);
        assert_eq!(outputs, [Output::Broadcast(block)]);
        assert_eq!(node.machine.step(Input::PoolChanged { now_ms, pending: true }, &node.signer), []);
    }
}

#[test]
fn inputs_out_of_place_do_nothing() {
    let mut node = alone(PACE);
    let mut rng = StdRng::seed_from_u64(1);
    for _ in 0..1_000 {
        let now_ms = rng.next_u64();
        let input = match rng.random_range(0..6) {
            0 => Input::Tick { now_ms },
            1 => Input::PoolChanged { now_ms, pending: rng.random() },
            2 => Input::Persisted { now_ms },
            3 => Input::Restored { now_ms, record: vec![rng.random(); 40] },
            4 => Input::Imported { now_ms, hash: B256::ZERO, accepted: rng.random() },
            _ => Input::Built { now_ms, block: None },
        };
        assert_eq!(node.machine.step(input, &node.signer), []);
    }
    assert_eq!(node.signer.address(), authority("A").address());
}
