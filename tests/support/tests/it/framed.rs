//! The memory sink as a server: frames over TCP, one append each.
//!
//! ```text
//! frame = len:u32 ‖ JSON                                               big-endian
//! request {"password":…,"append":[{"chain":[tenant,chain],"records":[line,…]},…]}  answer {"outcomes":[…]}
//! request {"password":…,"head":[tenant,chain]}                                     answer {"head":…}
//! ```

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use agent_audit_core::{
    hash::Hash,
    id::{ChainId, TenantId},
    memory::MemorySink,
    record::Record,
    sink::{
        Batch, BatchAck, ChainRef, Head, Segment, SegmentOutcome, Sink, SinkError, SinkErrorKind,
        SinkInfo,
    },
};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// What the server does wrong, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing.
    None,
    /// It acknowledges a batch that it does not keep.
    DropsABatch,
    /// It keeps a batch twice that comes again.
    AppendsAgain,
    /// It changes a byte of an event that it keeps.
    ChangesAByte,
    /// It loses the content of an event.
    LosesContent,
    /// It keeps two events in the wrong order.
    SwapsTwo,
}

/// What is kept, in the order in which it came; in a file, where it has to outlive its process.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    records: Mutex<Vec<Record>>,
    file: Option<PathBuf>,
}

impl Shelf {
    /// A shelf with what a file holds. A line without an end was cut when its process was killed,
    /// and nobody was told that it was kept.
    pub(crate) fn of_file(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let records = text[..whole].lines().map(|line| record_of(&line.into())).collect();
        Self { records: Mutex::new(records), file: Some(path.to_owned()) }
    }

    pub(crate) fn read(&self, chain: &ChainRef) -> Vec<Record> {
        let records = self.records.lock().unwrap();
        records.iter().filter(|record| is_of(record, chain)).cloned().collect()
    }

    fn add(&self, fresh: Vec<Record>) {
        if let Some(path) = &self.file {
            let lines: String =
                fresh.iter().map(|record| record.to_json_line().unwrap() + "\n").collect();
            let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
            if file.write_all(lines.as_bytes()).is_err() {
                // As a database that cannot go on; what it wrote of the last line is cut off when it
                // is started again.
                std::process::exit(1);
            }
        }
        self.records.lock().unwrap().extend(fresh);
    }

    /// Cuts the rest of a line off, so that the next one has a line of its own.
    fn mend(&self) {
        let Some(path) = &self.file else { return };
        let records = self.records.lock().unwrap();
        let whole: usize =
            records.iter().map(|record| record.to_json_line().unwrap().len() + 1).sum();
        if path.exists() {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(whole as u64).unwrap();
        }
    }
}

fn is_of(record: &Record, chain: &ChainRef) -> bool {
    let event = record.event().unwrap();
    event.tenant_id == chain.tenant_id && event.chain_id == chain.chain_id
}

/// A server; it goes when the runtime of its test does.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) shelf: Arc<Shelf>,
}

const PASSWORD: &str = "open sesame";

impl Server {
    pub(crate) async fn start(flaw: Flaw) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shelf = Arc::new(Shelf::default());
        tokio::spawn(serve(listener, Arc::clone(&shelf), flaw));
        Self { address, shelf }
    }
}

/// Serves for ever, with what is on the shelf.
pub(crate) async fn serve(listener: TcpListener, shelf: Arc<Shelf>, flaw: Flaw) {
    shelf.mend();
    let memory = MemorySink::new();
    let records = shelf.records.lock().unwrap().clone();
    for record in records {
        let event = record.event().unwrap();
        let chain = ChainRef::new(event.tenant_id, event.chain_id);
        let segment = Segment::new(chain, vec![record]).unwrap();
        let ack = memory.append(&Batch::new(vec![segment])).await.unwrap();
        assert!(matches!(ack.outcomes[..], [SegmentOutcome::Accepted]), "{ack:?}");
    }
    let keeper = Keeper { memory, shelf, flaw, turn: tokio::sync::Mutex::default() };
    let keeper = Arc::new(keeper);
    while let Ok((client, _)) = listener.accept().await {
        let keeper = Arc::clone(&keeper);
        tokio::spawn(async move { drop(keeper.serve(client).await) });
    }
}

/// The memory sink decides; the shelf is what is kept, right or wrong.
struct Keeper {
    memory: MemorySink,
    shelf: Arc<Shelf>,
    flaw: Flaw,
    /// One append at a time: what one has found to be new must not be put there by another.
    turn: tokio::sync::Mutex<()>,
}

impl Keeper {
    async fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        loop {
            let request = read_frame(&mut client).await?;
            let answer = if request["password"] != PASSWORD {
                json!({ "error": "who are you" })
            } else if let Some(chain) = request.get("head") {
                let head = self.memory.head(&chain_of(chain)).await.unwrap();
                json!({ "head": head.map(|head| json!({
                    "sequence": head.sequence, "hash": head.event_hash.to_string(),
                })) })
            } else {
                self.append(&request["append"]).await
            };
            write_frame(&mut client, &answer).await?;
        }
    }

    async fn append(&self, segments: &Value) -> Value {
        let segments: Vec<_> = segments
            .as_array()
            .unwrap()
            .iter()
            .map(|segment| {
                let records = segment["records"].as_array().unwrap().iter().map(record_of);
                Segment::new(chain_of(&segment["chain"]), records.collect()).unwrap()
            })
            .collect();
        let _turn = self.turn.lock().await;
        let held: Vec<_> =
            segments.iter().map(|segment| self.memory.records(segment.chain()).len()).collect();
        let ack = self.memory.append(&Batch::new(segments.clone())).await.unwrap();
        for ((segment, held), outcome) in segments.iter().zip(held).zip(&ack.outcomes) {
            if !matches!(outcome, SegmentOutcome::Accepted) {
                continue;
            }
            self.keep(segment, held);
        }
        let outcomes: Vec<_> = ack.outcomes.iter().map(outcome_to).collect();
        json!({ "outcomes": outcomes })
    }

    /// Puts what is new of a segment on the shelf; the flaw shows from the fourth event on.
    fn keep(&self, segment: &Segment, held: usize) {
        let known = held.saturating_sub(usize::try_from(segment.first()).unwrap());
        let mut fresh: Vec<Record> = segment.records().iter().skip(known).cloned().collect();
        let late = held > 3;
        match self.flaw {
            Flaw::DropsABatch if late => fresh.clear(),
            Flaw::AppendsAgain if known > 0 => fresh = segment.records().to_vec(),
            Flaw::ChangesAByte if late => {
                if let Some(record) = fresh.first_mut() {
                    let text = String::from_utf8(record.event_bytes().to_vec()).unwrap();
                    let text = text.replacen("\"s-1\"", "\"s-2\"", 1);
                    *record = Record::new(text.into_bytes(), record.parts().to_vec());
                }
            }
            Flaw::LosesContent if late => {
                if let Some(record) = fresh.iter_mut().find(|record| !record.parts().is_empty()) {
                    *record = Record::new(record.event_bytes().to_vec(), Vec::new());
                }
            }
            Flaw::SwapsTwo if late && fresh.len() > 1 => fresh.swap(0, 1),
            _ => {}
        }
        self.shelf.add(fresh);
    }
}

/// The client: one connection that is made when it is needed and dropped when it fails.
#[derive(Debug)]
pub(crate) struct FramedSink {
    info: SinkInfo,
    server: SocketAddr,
    password: &'static str,
    connection: tokio::sync::Mutex<Option<TcpStream>>,
}

impl FramedSink {
    pub(crate) fn new(server: SocketAddr) -> Self {
        Self {
            info: SinkInfo::new("framed", "memory").with_readable_heads(),
            server,
            password: PASSWORD,
            connection: tokio::sync::Mutex::default(),
        }
    }

    /// Does not ask what the server holds, so that what comes again is sent again.
    pub(crate) fn without_heads(mut self) -> Self {
        self.info.readable_heads = false;
        self
    }

    pub(crate) fn with_wrong_password(mut self) -> Self {
        self.password = "open barley";
        self
    }

    async fn ask(&self, mut request: Value) -> Result<Value, SinkError> {
        request["password"] = self.password.into();
        let mut connection = self.connection.lock().await;
        // Taken out, so that a request that is given up leaves none behind.
        let taken = connection.take();
        let exchange = async {
            let mut stream = match taken {
                Some(stream) => stream,
                None => TcpStream::connect(self.server).await?,
            };
            write_frame(&mut stream, &request).await?;
            let answer = read_frame(&mut stream).await?;
            Ok::<_, std::io::Error>((stream, answer))
        };
        let fault = |kind, text: String| SinkError::new(kind, text).with_maybe_applied();
        match tokio::time::timeout(Duration::from_secs(1), exchange).await {
            Ok(Ok((stream, answer))) => {
                *connection = Some(stream);
                match answer.get("error") {
                    Some(_) => Err(SinkError::new(SinkErrorKind::Unauthenticated, "not let in")),
                    None => Ok(answer),
                }
            }
            Ok(Err(error)) => Err(fault(SinkErrorKind::Unavailable, error.to_string())),
            Err(_) => Err(fault(SinkErrorKind::Timeout, "no answer within a second".to_owned())),
        }
    }
}

#[async_trait]
impl Sink for FramedSink {
    fn info(&self) -> &SinkInfo {
        &self.info
    }

    async fn append(&self, batch: &Batch) -> Result<BatchAck, SinkError> {
        let segments: Vec<_> = batch
            .segments()
            .iter()
            .map(|segment| {
                let records: Vec<_> = segment.records().iter().map(record_to).collect();
                json!({ "chain": chain_to(segment.chain()), "records": records })
            })
            .collect();
        let answer = self.ask(json!({ "append": segments })).await?;
        let outcomes = answer["outcomes"].as_array().unwrap().iter().map(outcome_of);
        Ok(BatchAck::new(outcomes.collect()))
    }

    async fn head(&self, chain: &ChainRef) -> Result<Option<Head>, SinkError> {
        let answer = self.ask(json!({ "head": chain_to(chain) })).await?;
        let head = &answer["head"];
        Ok(head["sequence"].as_u64().map(|sequence| {
            let hash: Hash = head["hash"].as_str().unwrap().parse().unwrap();
            Head::new(sequence, hash)
        }))
    }

    async fn check(&self) -> Result<(), SinkError> {
        let nobody = ChainRef::new(TenantId::new("nobody").unwrap(), ChainId::new("c").unwrap());
        self.head(&nobody).await.map(drop)
    }

    async fn close(&self) -> Result<(), SinkError> {
        drop(self.connection.lock().await.take());
        Ok(())
    }
}

async fn read_frame(stream: &mut TcpStream) -> std::io::Result<Value> {
    let length = stream.read_u32().await?;
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut bytes).await?;
    Ok(serde_json::from_slice(&bytes).unwrap())
}

async fn write_frame(stream: &mut TcpStream, value: &Value) -> std::io::Result<()> {
    let body = value.to_string().into_bytes();
    let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(body);
    stream.write_all(&frame).await
}

fn chain_to(chain: &ChainRef) -> Value {
    json!([chain.tenant_id.as_str(), chain.chain_id.as_str()])
}

fn chain_of(value: &Value) -> ChainRef {
    let text = |at: usize| value[at].as_str().unwrap();
    ChainRef::new(TenantId::new(text(0)).unwrap(), ChainId::new(text(1)).unwrap())
}

fn record_to(record: &Record) -> Value {
    record.to_json_line().unwrap().into()
}

fn record_of(value: &Value) -> Record {
    Record::from_json_line(value.as_str().unwrap().as_bytes()).unwrap()
}

fn outcome_to(outcome: &SegmentOutcome) -> Value {
    match outcome {
        SegmentOutcome::Accepted => json!("accepted"),
        SegmentOutcome::Conflict { sequence } => json!(sequence),
        other => panic!("the memory sink does not do that: {other:?}"),
    }
}

fn outcome_of(value: &Value) -> SegmentOutcome {
    match value.as_u64() {
        Some(sequence) => SegmentOutcome::Conflict { sequence },
        None => SegmentOutcome::Accepted,
    }
}
