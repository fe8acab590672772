"""The archive in S3, the seals of each day, and the verification of both."""
