//! A whole upload over loopback into `haul serve --store null`: reader by reader, with checksums, without and with TLS.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use haul::blocking::Client;
use haul::model::object::{Bucket, Key};
use haul::model::settings::{ClientSettings, Parallel, PartSize, ReaderKind, UploadRequest};
use haul::store::credentials::Credentials;

const SECRET: &str = "bench-secret";
const FILE_BYTES: u64 = 256 << 20;

/// The store, and its output: a server that cannot print ends.
struct Served {
    child: Child,
    _lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// - `tls`: certificate and key, in PEM.
fn serve(tls: Option<[&Path; 2]>) -> (Served, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_haul"));
    command.args(["serve", "--store", "null", "--listen", "127.0.0.1:0", "--access-key-id", "bench"]).args([
        "--region",
        "cn-hangzhou",
        "--bucket",
        "demo",
    ]);
    for (option, path) in ["--tls-cert", "--tls-key"].iter().zip(tls.into_iter().flatten()) {
        command.arg(option).arg(path);
    }
    let mut child =
        command.env("OSS_ACCESS_KEY_SECRET", SECRET).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let endpoint = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| line.split([' ', '\'']).find(|w| w.contains("://127.")).map(str::to_owned))
        .expect("the store says where it listens");
    (Served { child, _lines: lines }, endpoint)
}

fn loopback(c: &mut Criterion) {
    let scratch = tempfile::tempdir().expect("a directory for the file");
    let path = scratch.path().join("file");
    let mut block = vec![0; 1 << 20];
    let mut file = std::fs::File::create(&path).expect("a file to upload");
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..FILE_BYTES >> 20 {
        random.fill(&mut block);
        file.write_all(&block).expect("room for the file");
    }
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| scratch.path().join(name));
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    std::fs::write(&cert, signed.cert.pem()).expect("room for the certificate");
    std::fs::write(&key, signed.signing_key.serialize_pem()).expect("room for the key");
    upload(c, "loopback", serve(None), None, &path);
    upload(c, "loopback-tls", serve(Some([&cert, &key])), Some(&cert), &path);
}

fn upload(c: &mut Criterion, name: &str, (_served, endpoint): (Served, String), ca_cert: Option<&Path>, path: &Path) {
    let mut settings = ClientSettings::new(endpoint);
    settings.region = Some("cn-hangzhou".into());
    settings.ca_cert = ca_cert.map(Path::to_owned);
    let client = Client::new(settings, Some(Credentials::new("bench", SECRET))).expect("a client");
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Bytes(FILE_BYTES)).sample_size(20);
    for reader in [ReaderKind::Mmap, ReaderKind::Pread, ReaderKind::Uring] {
        let mut request = UploadRequest::new(
            path,
            Bucket::new("demo").expect("a valid name"),
            Key::new("object").expect("a valid name"),
        );
        request.reader = Some(reader);
        request.part_size = PartSize::Bytes(8 << 20);
        request.parallel = Parallel::Parts(4);
        group.bench_function(reader.to_string(), |b| {
            b.iter(|| client.upload(request.clone()).wait().expect("an upload that works"));
        });
    }
}

criterion_group!(benches, loopback);
criterion_main!(benches);
