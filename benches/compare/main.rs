//! One large file through this crate, the `age` crate and the `age` command: wall, CPU seconds, peak memory.
//!
//! `compare run MIB ROUNDS [BACKEND=PROGRAM]...` runs itself, the programs (this one with another cipher behind it) and `age`, each as a
//! process of its own. The rounds interleave the programs, so that other load on the machine meets all of them;
//! ratios are of CPU seconds, medians. Input is a file in a file system in memory, output goes to `/dev/null`; a third
//! table leaves the file out, and the system's time for it. Before that each program's output is opened by another one
//! and compared with the input. Linux only: it reads `/proc`. On a busy machine wall times mean something only under
//! `chrt -f 50`.

use std::{
    env,
    error::Error,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use lightstreams_crypto::{
    FileKey, Header, PayloadEncryptor, PayloadKey, PayloadNonce, X25519Identity, decrypt, decryptor, encrypt,
};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> Result {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["run", mib, rounds, ref backends @ ..] => run(mib.parse()?, rounds.parse()?, backends),
        [direction, program, key, from, to] => {
            let from: Box<dyn Read> = match from.strip_prefix("memory:") {
                Some(mib) => {
                    Box::new(Memory { block: vec![0x5a; 1 << 20], at: 0 }.take(mib.parse::<u64>()? << 20))
                }
                None => Box::new(File::open(from)?),
            };
            let to = File::create(to)?;
            match (direction, program) {
                ("encrypt", "age-crate") => age_crate_encrypt(key, from, to),
                ("decrypt", "age-crate") => age_crate_decrypt(key, from, to),
                ("encrypt", threads) => our_encrypt(key, threads.parse()?, from, to),
                ("decrypt", threads) => our_decrypt(key, threads.parse()?, from, to),
                _ => Err("encrypt or decrypt".into()),
            }
        }
        _ => Err("usage: compare run MIB ROUNDS [BACKEND=PROGRAM]...".into()),
    }
}

/// A source without end and without system calls.
struct Memory {
    block: Vec<u8>,
    at: usize,
}

impl Read for Memory {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let count = buf.len().min(self.block.len() - self.at);
        buf[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at = (self.at + count) % self.block.len();
        Ok(count)
    }
}

fn our_encrypt(key: &str, threads: usize, from: impl Read, mut to: File) -> Result {
    let recipient = key.parse::<X25519Identity>()?.recipient();
    let rng = &mut rand::rng();
    if threads == 0 {
        encrypt(&[&recipient], from, to, rng)?;
        return Ok(());
    }
    let (file_key, nonce) = (FileKey::generate(rng), PayloadNonce::generate(rng));
    to.write_all(&Header::wrap(&file_key, &[&recipient], rng)?.to_block(&nonce))?;
    let serial = PayloadEncryptor::new(PayloadKey::derive(&file_key, &nonce), from);
    copy(serial.parallel(threads.try_into()?), to)
}

fn our_decrypt(key: &str, threads: usize, from: impl Read, to: File) -> Result {
    let identity: X25519Identity = key.parse()?;
    if threads == 0 {
        decrypt(&[&identity], from, to)?;
        return Ok(());
    }
    copy(decryptor(&[&identity], BufReader::new(from))?.parallel(threads.try_into()?), to)
}

fn copy(mut from: impl BufRead, mut to: File) -> Result {
    loop {
        let ready = from.fill_buf()?;
        if ready.is_empty() {
            return Ok(());
        }
        to.write_all(ready)?;
        let count = ready.len();
        from.consume(count);
    }
}

fn age_crate_encrypt(key: &str, from: impl Read, to: File) -> Result {
    let recipient = key.parse::<age::x25519::Identity>()?.to_public();
    let encryptor = age::Encryptor::with_recipients([&recipient as &dyn age::Recipient].into_iter())?;
    let mut writer = encryptor.wrap_output(to)?;
    copy_chunks(from, &mut writer)?;
    writer.finish()?;
    Ok(())
}

fn age_crate_decrypt(key: &str, from: impl Read, to: File) -> Result {
    let identity: age::x25519::Identity = key.parse()?;
    let decryptor = age::Decryptor::new_buffered(BufReader::new(from))?;
    copy_chunks(decryptor.decrypt([&identity as &dyn age::Identity].into_iter())?, to)
}

/// With a buffer of one chunk, which suits the `age` crate better than the 8 KiB of `io::copy`.
fn copy_chunks(mut from: impl Read, mut to: impl Write) -> Result {
    let mut buffer = vec![0; 65_536];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => to.write_all(&buffer[..count])?,
        }
    }
}

struct Program {
    name: String,
    encrypt: Vec<String>,
    decrypt: Vec<String>,
    age_command: bool,
}

#[derive(Default, Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
    peak_mib: f64,
}

fn run(mib: usize, rounds: usize, backends: &[&str]) -> Result {
    let cores = thread::available_parallelism()?.get();
    let dir = Path::new(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" })
        .join(format!("age-compare-{}", std::process::id()));
    fs::create_dir(&dir)?;
    let outcome = run_in(&dir, cores, mib, rounds, backends);
    fs::remove_dir_all(&dir)?;
    outcome
}

fn run_in(dir: &Path, cores: usize, mib: usize, rounds: usize, backends: &[&str]) -> Result {
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let (plain, sealed, scratch, opened) = (path("plain"), path("sealed"), path("scratch"), path("opened"));
    let mut file = File::create(&plain)?;
    let mut block = vec![0; 1 << 20];
    for _ in 0..mib {
        rand::Rng::fill_bytes(&mut rand::rng(), &mut block);
        file.write_all(&block)?;
    }
    let key = X25519Identity::generate(&mut rand::rng());
    let secret = key.to_secret_string().to_string();
    fs::write(path("key"), &secret)?;
    encrypt(&[&key.recipient()], File::open(&plain)?, File::create(&sealed)?, &mut rand::rng())?;

    let this = env::current_exe()?.to_string_lossy().into_owned();
    let ours = |name: String, exe: &str, program: &str| Program {
        name,
        encrypt: ["encrypt", program, &secret].iter().fold(vec![exe.into()], push),
        decrypt: ["decrypt", program, &secret].iter().fold(vec![exe.into()], push),
        age_command: false,
    };
    let parallel = cores.to_string();
    let mut programs = vec![ours("age crate".into(), &this, "age-crate")];
    let backends: Option<Vec<_>> = backends.iter().map(|backend| backend.split_once('=')).collect();
    for (backend, exe) in [("pure", this.as_str())].into_iter().chain(backends.ok_or("BACKEND=PROGRAM")?) {
        programs.push(ours(format!("{backend}, serial"), exe, "0"));
        programs.push(ours(format!("{backend}, {cores} threads"), exe, &parallel));
    }
    if Command::new("age").arg("--version").output().is_ok() {
        let recipient = key.recipient().to_string();
        programs.push(Program {
            name: "age command".into(),
            encrypt: ["-r", &recipient, "-o"].iter().fold(vec!["age".into()], push),
            decrypt: ["-d", "-i", &path("key"), "-o"].iter().fold(vec!["age".into()], push),
            age_command: true,
        });
    } else {
        println!("skipped: the command `age` is not installed");
    }

    let expected = fs::read(&plain)?;
    for program in &programs {
        measure(program, &program.encrypt, &plain, &scratch)?;
        decrypt(&[&key], File::open(&scratch)?, File::create(&opened)?)?;
        if fs::read(&opened)? != expected {
            return Err(format!("{} encrypts something else", program.name).into());
        }
        measure(program, &program.decrypt, &sealed, &opened)?;
        if fs::read(&opened)? != expected {
            return Err(format!("{} decrypts to something else", program.name).into());
        }
    }
    drop(expected);
    fs::remove_file(&opened)?;
    fs::remove_file(&scratch)?;

    println!(
        "{mib} MiB, {cores} cores, medians of {rounds} rounds; best wall in brackets; ratios of CPU to the age crate"
    );
    let memory = format!("memory:{mib}");
    for (direction, from) in [("encrypt", &plain), ("decrypt", &sealed), ("encrypt, no file", &memory)] {
        let programs: Vec<&Program> =
            programs.iter().filter(|program| !(program.age_command && from == &memory)).collect();
        let mut costs = vec![Vec::new(); programs.len()];
        for _ in 0..rounds {
            for (program, costs) in programs.iter().zip(&mut costs) {
                let args = if direction == "decrypt" { &program.decrypt } else { &program.encrypt };
                costs.push(measure(program, args, from, "/dev/null")?);
            }
        }
        let base = median(&costs[0], |cost| cost.cpu);
        println!("{direction:21}   wall s           CPU s   MB per CPU s   peak MiB   ratio");
        for (program, costs) in programs.iter().zip(&costs) {
            let (wall, cpu) = (median(costs, |cost| cost.wall), median(costs, |cost| cost.cpu));
            let best = costs.iter().map(|cost| cost.wall).fold(f64::MAX, f64::min);
            let peak = costs.iter().map(|cost| cost.peak_mib).fold(0.0, f64::max);
            println!(
                "  {:19} {wall:6.2} ({best:5.2})  {cpu:10.2} {:14.0} {peak:10.1} {:7.2}",
                program.name,
                mib as f64 * 1.048_576 / cpu,
                base / cpu,
            );
        }
    }
    Ok(())
}

fn push(mut args: Vec<String>, arg: &&str) -> Vec<String> {
    args.push((*arg).into());
    args
}

fn median(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    let mut values: Vec<f64> = costs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs a program to its end, and takes its costs from `/proc` while it is a zombie.
fn measure(program: &Program, args: &[String], from: &str, to: &str) -> Result<Cost> {
    let (exe, args) = args.split_first().ok_or("no program")?;
    let mut command = Command::new(exe);
    match program.age_command {
        true => command.args(args).args([to, from]),
        false => command.args(args).args([from, to]),
    };
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).spawn()?;
    let proc = Path::new("/proc").join(child.id().to_string());
    let mut cost = Cost::default();
    loop {
        let stat = fs::read_to_string(proc.join("stat"))?;
        let (_, fields) = stat.rsplit_once(") ").ok_or("no stat")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        if fields[0] == "Z" {
            cost.wall = start.elapsed().as_secs_f64();
            // Clock ticks, of which there are 100 in a second on every Linux.
            cost.cpu = (fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0;
            break;
        }
        let status = fs::read_to_string(proc.join("status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        if let Some(kib) = peak.and_then(|kib| kib.trim().parse::<f64>().ok()) {
            cost.peak_mib = kib / 1024.0;
        }
        thread::sleep(Duration::from_millis(2));
    }
    match child.wait()?.success() {
        true => Ok(cost),
        false => Err(format!("{} failed", program.name).into()),
    }
}
