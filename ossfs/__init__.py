"""Mount an Alibaba Cloud OSS bucket as a directory."""

__version__ = "0.1.0"
