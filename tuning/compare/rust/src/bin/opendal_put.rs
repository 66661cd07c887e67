//! Uploads one file with the crate opendal (its S3 service), the way its documentation shows: a concurrent writer.
//!
//! It has no checksum by default; an authority to trust comes from the variable SSL_CERT_FILE.

use std::error::Error;
use std::fs::File;
use std::sync::Arc;

use haul_compare::{Upload, read};
use opendal::{Operator, services};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let upload = Upload::from_arguments()?;
    let service = services::S3::default().endpoint(&upload.endpoint).bucket("demo").disable_ec2_metadata();
    let operator = Operator::new(service)?;
    if upload.startup {
        return Ok(());
    }
    let (file, parts) = (Arc::new(File::open(&upload.file)?), upload.parts()?);
    let writer = operator.writer_with(&upload.key).chunk(upload.part_size as usize).concurrent(upload.parallel);
    let mut writer = writer.await?;
    for part in parts {
        let file = file.clone();
        writer.write(tokio::task::spawn_blocking(move || read(&file, &part)).await??).await?;
    }
    writer.close().await?;
    Ok(())
}
