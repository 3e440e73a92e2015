"""The environment variables by which a program finds this cloud in place of AWS."""

_VARIABLES = {
    "apigatewayv2": "APIGATEWAYV2",
    "athena": "ATHENA",
    "dynamodb": "DYNAMODB",
    "ecs": "ECS",
    "glue": "GLUE",
    "iam": "IAM",
    "kms": "KMS",
    "lambda": "LAMBDA",
    "logs": "CLOUDWATCH_LOGS",
    "s3": "S3",
    "secretsmanager": "SECRETS_MANAGER",
    "sqs": "SQS",
    "ssm": "SSM",
    "sts": "STS",
}
"""What follows AWS_ENDPOINT_URL_: the service's id in capitals, https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html."""


def variables(endpoints: dict[str, str]) -> dict[str, str]:
    """AWS_ENDPOINT_URL_<SERVICE> for each address; boto3 and the AWS CLI look for them."""
    return {f"AWS_ENDPOINT_URL_{_VARIABLES[name]}": url for name, url in endpoints.items()}
