"""The official Python SDK as a judge of the embedded server.

Usage: python_sdk_v2.py ENDPOINT REGION BUCKET VERSION   (VERSION: v1 or v4)
Key id and secret come from OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET. Exits with a traceback at the first
disagreement; prints "agreed" at the end.
"""

import hashlib
import os
import sys

import alibabacloud_oss_v2 as oss
from alibabacloud_oss_v2 import crc


def client(endpoint, region, version, secret):
    provider = oss.credentials.StaticCredentialsProvider(os.environ["OSS_ACCESS_KEY_ID"], secret)
    config = oss.config.load_default()
    config.credentials_provider = provider
    config.endpoint = endpoint
    config.region = region
    config.signature_version = version
    config.use_path_style = True
    config.retry_max_attempts = 1
    return oss.Client(config)


def code_of(call):
    """The error code that a call is refused with."""
    try:
        call()
    except oss.exceptions.OperationError as error:
        return error.unwrap().code
    raise AssertionError("the call was not refused")


def crc64(data):
    digest = crc.Crc64(0)
    digest.update(data)
    return str(digest.sum64())


def judge_objects(judge, bucket, version):
    # No "..": urllib3 would resolve it before it signs and sends.
    key = f"{version}/dir/大文件 +&=?#%~//a.bin"
    data = os.urandom(300_000)
    put = judge.put_object(oss.PutObjectRequest(
        bucket=bucket, key=key, body=data, content_type="text/x-judge", metadata={"author": "judge"}))
    assert put.status_code == 200
    assert put.etag.strip('"') == hashlib.md5(data).hexdigest().upper(), put.etag
    assert put.hash_crc64 == crc64(data), put.hash_crc64

    head = judge.head_object(oss.HeadObjectRequest(bucket=bucket, key=key))
    assert head.content_length == len(data)
    assert head.content_type == "text/x-judge"
    assert head.metadata["author"] == "judge"
    assert head.object_type == "Normal"

    whole = judge.get_object(oss.GetObjectRequest(bucket=bucket, key=key))
    assert whole.body.content == data
    part = judge.get_object(oss.GetObjectRequest(
        bucket=bucket, key=key, range_header="bytes=1000-1999", range_behavior="standard"))
    assert part.status_code == 206
    assert part.content_range == f"bytes 1000-1999/{len(data)}", part.content_range
    assert part.body.content == data[1000:2000]

    judge.put_object(oss.PutObjectRequest(bucket=bucket, key=f"{version}/b", body=b"b"))
    listed = list(judge.list_objects_v2_paginator(limit=1).iter_page(
        oss.ListObjectsV2Request(bucket=bucket, prefix=f"{version}/")))
    names = [item.key for page in listed for item in page.contents or []]
    assert names == sorted([f"{version}/b", key], key=lambda name: name.encode()), names

    assert judge.delete_object(oss.DeleteObjectRequest(bucket=bucket, key=key)).status_code == 204
    assert code_of(lambda: judge.head_object(oss.HeadObjectRequest(bucket=bucket, key=key))) == "NoSuchKey"
    assert code_of(lambda: judge.get_object(oss.GetObjectRequest(bucket=bucket, key=key))) == "NoSuchKey"


def judge_multipart(judge, bucket, version):
    key = f"{version}/multi part+/x.bin"
    data = os.urandom(3 * 102_400 + 77)
    pieces = [data[at:at + 102_400] for at in range(0, len(data), 102_400)]
    upload = judge.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(
        bucket=bucket, key=key, content_type="text/x-multi", metadata={"a": "b"}))
    assert upload.key == key
    parts = []
    for number, piece in reversed(list(enumerate(pieces, start=1))):
        part = judge.upload_part(oss.UploadPartRequest(
            bucket=bucket, key=key, upload_id=upload.upload_id, part_number=number, body=piece))
        assert part.hash_crc64 == crc64(piece)
        parts.append(oss.UploadPart(part_number=number, etag=part.etag))
    listed = [part for page in judge.list_parts_paginator(limit=2).iter_page(oss.ListPartsRequest(
        bucket=bucket, key=key, upload_id=upload.upload_id)) for part in page.parts or []]
    assert [(p.part_number, p.size) for p in listed] == [(n, len(x)) for n, x in enumerate(pieces, start=1)]
    assert [str(p.hash_crc64) for p in listed] == [crc64(piece) for piece in pieces]
    uploads = judge.list_multipart_uploads(oss.ListMultipartUploadsRequest(bucket=bucket))
    assert [u.upload_id for u in uploads.uploads] == [upload.upload_id]
    done = judge.complete_multipart_upload(oss.CompleteMultipartUploadRequest(
        bucket=bucket, key=key, upload_id=upload.upload_id,
        complete_multipart_upload=oss.CompleteMultipartUpload(parts=sorted(parts, key=lambda p: p.part_number))))
    assert done.hash_crc64 == crc64(data), done.hash_crc64
    got = judge.get_object(oss.GetObjectRequest(bucket=bucket, key=key))
    assert got.body.content == data
    assert got.object_type == "Multipart" and got.metadata["a"] == "b"

    upload = judge.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(bucket=bucket, key=key))
    abort = oss.AbortMultipartUploadRequest(bucket=bucket, key=key, upload_id=upload.upload_id)
    assert judge.abort_multipart_upload(abort).status_code == 204
    assert code_of(lambda: judge.abort_multipart_upload(abort)) == "NoSuchUpload"


def judge_bucket(judge, bucket, version):
    assert judge.put_bucket(oss.PutBucketRequest(bucket=f"judge-{version}")).status_code == 200
    info = judge.get_bucket_info(oss.GetBucketInfoRequest(bucket=f"judge-{version}"))
    assert info.bucket_info.name == f"judge-{version}"


def main():
    endpoint, region, bucket, version = sys.argv[1:5]
    secret = os.environ["OSS_ACCESS_KEY_SECRET"]
    judge = client(endpoint, region, version, secret)
    judge_bucket(judge, bucket, version)
    judge_objects(judge, bucket, version)
    judge_multipart(judge, bucket, version)
    forger = client(endpoint, region, version, secret + "x")
    put = oss.PutObjectRequest(bucket=bucket, key="forged", body=b"x")
    assert code_of(lambda: forger.put_object(put)) == "SignatureDoesNotMatch"
    assert code_of(lambda: judge.head_object(oss.HeadObjectRequest(bucket=bucket, key="forged"))) == "NoSuchKey"
    print("agreed")


main()
