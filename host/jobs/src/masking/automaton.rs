//! Finds all of many words in one pass over a stream of bytes (Aho and Corasick's automaton), and
//! tells at each byte how much of what it has seen may still become a word.

/// What a word is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// The word itself is hidden.
    Secret,
    /// What follows the word is hidden.
    Lead,
}

#[derive(Default)]
struct Node {
    next: Vec<(u8, u32)>,
    fail: u32,
    depth: u32,
    /// How many of the last bytes are the beginning of a word that is not whole yet.
    open: u32,
    /// Length of the longest secret that ends here.
    secret: u32,
    /// Whether a lead ends here.
    lead: bool,
}

/// The automaton. Its states are numbers; 0 is the one in which nothing has begun.
pub(super) struct Automaton {
    nodes: Vec<Node>,
    first: Box<[u32; 256]>,
}

impl Automaton {
    pub(super) fn new<'a>(words: impl IntoIterator<Item = (&'a [u8], Word)>) -> Self {
        let mut automaton = Self {
            nodes: vec![Node::default()],
            first: Box::new([0; 256]),
        };
        for (word, kind) in words {
            automaton.add(word, kind);
        }
        automaton.link();
        automaton
    }

    fn add(&mut self, word: &[u8], kind: Word) {
        if word.is_empty() {
            return;
        }
        let mut state = 0;
        for byte in word {
            state = match self.child(state, *byte) {
                Some(next) => next,
                None => {
                    let next = self.nodes.len() as u32;
                    let depth = self.nodes[state as usize].depth + 1;
                    self.nodes.push(Node {
                        depth,
                        ..Node::default()
                    });
                    self.nodes[state as usize].next.push((*byte, next));
                    if state == 0 {
                        self.first[usize::from(*byte)] = next;
                    }
                    next
                }
            };
        }
        let node = &mut self.nodes[state as usize];
        match kind {
            Word::Secret => node.secret = node.depth,
            Word::Lead => node.lead = true,
        }
    }

    /// Breadth first, so that a node's fallback is complete before the node needs it.
    fn link(&mut self) {
        let mut queue: std::collections::VecDeque<u32> =
            self.nodes[0].next.iter().map(|(_, next)| *next).collect();
        while let Some(state) = queue.pop_front() {
            let node = &self.nodes[state as usize];
            // The fallback is shorter, so it was here before.
            let open = match node.next.is_empty() {
                true => self.nodes[node.fail as usize].open,
                false => node.depth,
            };
            self.nodes[state as usize].open = open;
            let children = self.nodes[state as usize].next.clone();
            for (byte, child) in children {
                let fail = self.step(self.nodes[state as usize].fail, byte);
                let (secret, lead) = {
                    let fallback = &self.nodes[fail as usize];
                    (fallback.secret, fallback.lead)
                };
                let node = &mut self.nodes[child as usize];
                node.fail = fail;
                node.secret = node.secret.max(secret);
                node.lead |= lead;
                node.open = if node.next.is_empty() {
                    open
                } else {
                    node.depth
                };
                queue.push_back(child);
            }
        }
    }

    fn child(&self, state: u32, byte: u8) -> Option<u32> {
        if state == 0 {
            return Some(self.first[usize::from(byte)]).filter(|next| *next != 0);
        }
        self.nodes[state as usize]
            .next
            .iter()
            .find(|(known, _)| *known == byte)
            .map(|(_, next)| *next)
    }

    /// The state after one more byte.
    pub(super) fn step(&self, mut state: u32, byte: u8) -> u32 {
        loop {
            if let Some(next) = self.child(state, byte) {
                return next;
            }
            if state == 0 {
                return 0;
            }
            state = self.nodes[state as usize].fail;
        }
    }

    /// Whether a word may begin with this byte.
    pub(super) fn begins(&self, byte: u8) -> bool {
        self.first[usize::from(byte)] != 0
    }

    /// How many of the last bytes are the beginning of a word that is not whole yet.
    pub(super) fn open(&self, state: u32) -> usize {
        self.nodes[state as usize].open as usize
    }

    /// The length of the longest secret that ends here; 0 for none.
    pub(super) fn secret(&self, state: u32) -> usize {
        self.nodes[state as usize].secret as usize
    }

    /// Whether a lead ends here.
    pub(super) fn lead(&self, state: u32) -> bool {
        self.nodes[state as usize].lead
    }
}
