"""One distribution: the server, and the plugins it ships, which are found by entry point like anybody else's."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
SHIPPED = sorted(path.name for path in (HERE / "plugins").iterdir() if (path / "__init__.py").exists())

setup(
    name="mailserv",
    version="0.1.0",
    description="A whole mail server in readable Python: SMTP, submission, a durable queue with MX delivery, POP3",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["mailserv", "mailserv.*"]) + SHIPPED,
    package_dir={"mailserv": "mailserv", **{name: f"plugins/{name}" for name in SHIPPED}},
    package_data={"mailserv": ["py.typed"]},
    install_requires=[
        "argon2-cffi",
        "click",
        "cryptography",
        "dnspython>=2.9",
        "idna",
        "msgspec",
        "pluggy>=1.6",
        "prometheus-client",
        "sqlite-utils>=4.2.1",
        "structlog",
        "tomli>=2.5",
    ],
    extras_require={
        "forward": ["srslib"],
        "scram": ["scramp"],
        "test": [
            "dkimpy[ed25519]",
            "dnslib",
            "flufl.bounce",
            "hypothesis",
            "mypy",
            "pytest",
            "pytest-cov",
            "pytest-timeout",
            "ruff",
            "scramp",
            "setuptools>=70.1",
            "srslib",
            "trustme",
        ],
    },
    entry_points={
        "console_scripts": ["mailserv = mailserv.__main__:main"],
        "pytest11": ["mailserv = mailserv.testing.pytest_plugin"],
        "mailserv.plugins": [f"{name.removeprefix('mailserv_')} = {name}:Plugin" for name in SHIPPED],
    },
)
