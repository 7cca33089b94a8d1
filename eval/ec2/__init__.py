"""The bazaar on one EC2 machine: `python -m eval.ec2 --help`, docs/ec2.md.

Needs the extra `ec2` (boto3), and the system's ssh. What runs on the machine itself is in the folder machine/.
"""
