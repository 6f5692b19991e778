"""Authorities and certificates of this test alone, made by openssl in a folder of its own: NAME.crt and NAME.key."""
import os
import subprocess

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def openssl(folder, *words):
    subprocess.run(["openssl", *words], check=True, capture_output=True, stdin=subprocess.DEVNULL, cwd=folder, timeout=60)


def authority(folder, name):
    openssl(folder, "req", "-x509", *CURVE, "-days", "2", "-keyout", name + ".key", "-out", name + ".crt",
            "-subj", "/CN=" + name, "-addext", "basicConstraints=critical,CA:TRUE")


def certificate(folder, name, signer, address="IP:127.0.0.1"):
    openssl(folder, "req", *CURVE, "-keyout", name + ".key", "-out", name + ".csr", "-subj", "/CN=" + name)
    with open(os.path.join(folder, name + ".ext"), "w") as f:
        f.write(f"subjectAltName={address}\n")
    openssl(folder, "x509", "-req", "-in", name + ".csr", "-CA", signer + ".crt", "-CAkey", signer + ".key",
            "-CAcreateserial", "-days", "2", "-extfile", name + ".ext", "-out", name + ".crt")
