//! How do I put files on the web so that people can open them and programs can verify them?
//!
//! `cargo run -p lightstreams-examples --example gateway -- 127.0.0.1:8080 PATH…` serves files and folders, CARs with all that is in
//! them, and IPNS records (`NAME.ipns-record`). Without arguments, it asks itself for a file of its own and ends.

use std::{
    collections::HashMap,
    error::Error,
    fs::File,
    io::BufReader,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use lightstreams_store::{
    AllowAll, Bytes, CarLimits, Gate, ImportOptions, Input, IpnsName, MAX_IPNS_RECORD_LEN, MemoryStore,
    StoreError,
    gateway::{Gateway, GatewayConfig, IpnsRecords},
    import_car,
};

/// Records from files.
#[derive(Default)]
struct Records(HashMap<IpnsName, Bytes>);

impl IpnsRecords for Records {
    fn record(&self, name: &IpnsName) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.get(name).cloned())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let address = arguments.next().and_then(|address| address.into_string().ok());
    let address: SocketAddr = address.as_deref().unwrap_or("127.0.0.1:0").parse()?;
    let paths: Vec<PathBuf> = arguments.map(PathBuf::from).collect();

    let store = Arc::new(MemoryStore::default());
    let mut records = Records::default();
    for path in &paths {
        add(path, &store, &mut records)?;
    }
    let hello = ("hello.txt".to_owned(), Input::reader(&b"hello world"[..]));
    let hello = ImportOptions::unixfs_v1_2025().import(Input::directory([hello]), &*store, &mut |_| ())?;

    let gate = Gate::new(store, Arc::new(AllowAll));
    let gateway = Gateway::new(gate, GatewayConfig::default()).with_names(Arc::new(records));
    tokio::runtime::Runtime::new()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        println!("http://{address}/ipfs/{}/", hello.cid);
        let served = axum::serve(listener, gateway.router()).into_future();
        if !paths.is_empty() {
            return Ok(served.await?);
        }
        let served = tokio::spawn(served);
        let path = format!("/ipfs/{}/hello.txt", hello.cid);
        let answer = tokio::task::spawn_blocking(move || get(address, &path)).await??;
        served.abort();
        println!("{answer}");
        if answer.ends_with("hello world") { Ok(()) } else { Err("this is not the file".into()) }
    })
}

fn add(path: &Path, store: &MemoryStore, records: &mut Records) -> Result<(), Box<dyn Error>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if let Some(stem) = name.strip_suffix(".ipns-record") {
        // What follows the name is a remark.
        let name = stem.split('_').next().unwrap_or_default().parse()?;
        if File::open(path)?.metadata()?.len() <= MAX_IPNS_RECORD_LEN as u64 {
            records.0.insert(name, std::fs::read(path)?.into());
        }
    } else if name.ends_with(".car") {
        let car = BufReader::new(File::open(path)?);
        import_car(car, CarLimits::default(), store, &mut |_| ())?;
    } else {
        let root = ImportOptions::unixfs_v1_2025().import(Input::path(path)?, store, &mut |_| ())?;
        println!("/ipfs/{} {}", root.cid, path.display());
    }
    Ok(())
}

/// What a client sees.
fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
