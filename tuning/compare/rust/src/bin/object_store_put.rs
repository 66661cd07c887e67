//! Uploads one file with the crate object_store, the way its documentation shows: a multipart writer with a bound.

use std::error::Error;
use std::fs::File;
use std::sync::Arc;

use haul_compare::{Upload, read};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{Certificate, ClientOptions, ObjectStoreExt as _, WriteMultipart};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let upload = Upload::from_arguments()?;
    let mut options = ClientOptions::new().with_allow_http(true);
    if let Some(ca) = &upload.ca {
        options = options.with_root_certificate(Certificate::from_pem(&std::fs::read(ca)?)?);
    }
    let store = AmazonS3Builder::from_env()
        .with_endpoint(&upload.endpoint)
        .with_bucket_name("demo")
        .with_unsigned_payload(!upload.checks)
        .with_client_options(options)
        .build()?;
    if upload.startup {
        return Ok(());
    }
    let (file, key, parts) = (Arc::new(File::open(&upload.file)?), Path::from(upload.key.as_str()), upload.parts()?);
    if parts.len() < 2 {
        store.put(&key, read(&file, &parts.into_iter().next().unwrap_or(0..0))?.into()).await?;
        return Ok(());
    }
    let mut writer = WriteMultipart::new_with_chunk_size(store.put_multipart(&key).await?, upload.part_size as usize);
    for part in parts {
        writer.wait_for_capacity(upload.parallel).await?;
        let file = file.clone();
        writer.put(tokio::task::spawn_blocking(move || read(&file, &part)).await??);
    }
    writer.finish().await?;
    Ok(())
}
