"""A home that is watched for half an hour: `python -m benchmarks.cameras`."""
