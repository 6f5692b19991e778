"""checker.py STATE: looks at what a daemon left behind without any of its code: Python's sqlite3 and zlib read the queue
and the stored pictures.  Also a module: look(state) returns how many tasks and pictures it saw, or raises Wrong.
"""
import binascii
import json
import os
import sqlite3
import struct
import sys
import zlib

WAITING, RUNNING, DONE, FAILED, STOPPED, EXPIRED = range(6)


class Wrong(AssertionError):
    pass


def png_pixels(data, name="picture"):
    """The raw rows of a PNG file whose every checksum was verified."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise Wrong(f"{name} is no PNG file")
    at, packed, header = 8, b"", None
    while True:
        if at + 12 > len(data):
            raise Wrong(f"{name} ends in its middle")
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body, crc = data[at + 8:at + 8 + length], data[at + 8 + length:at + 12 + length]
        if len(crc) < 4 or binascii.crc32(kind + body) != struct.unpack(">I", crc)[0]:
            raise Wrong(f"{name}: a checksum is wrong")
        at += 12 + length
        if kind == b"IHDR":
            header = struct.unpack(">IIBB", body[:10])
        elif kind == b"IDAT":
            packed += body
        elif kind == b"IEND":
            break
    rows = zlib.decompress(packed)
    width, height, _, colours = header
    if at != len(data) or len(rows) != height * (1 + width * {2: 3, 6: 4}[colours]):
        raise Wrong(f"{name} has more or less than its pixels")
    return rows


def check_item(text, uuid, results):
    item = json.loads(text)
    if item["taskUUID"].lower() != uuid:
        raise Wrong(f"an item of {uuid} names {item['taskUUID']}")
    url = item.get("imageURL")
    if url:
        path = os.path.join(results, url.rsplit("/", 1)[1])
        if not os.path.exists(path):
            raise Wrong(f"{uuid} is told to be in {path}, which is not there")
        with open(path, "rb") as f:
            data = f.read()
        if path.endswith(".png"):
            png_pixels(data, path)
    return item


def check_task(row, items, results):
    """One row of the queue against its items and files."""
    seq, task_id, state, pictures, task, error = row
    uuid = task_id.rsplit("/", 1)[1]
    if state in (WAITING, RUNNING, DONE) and not json.loads(task):
        raise Wrong(f"{uuid} has no task")
    if state == DONE and (error or sorted(items) != list(range(pictures))):
        raise Wrong(f"{uuid} is done with pictures {sorted(items)} of {pictures}, error {error}")
    if error and not json.loads(error).get("message"):  # without memory for it there is none
        raise Wrong(f"{uuid} failed without a reason")
    return [check_item(items[place], uuid, results) for place in sorted(items)]


def look(state, must_have=(), must_end=True):
    """must_have: taskUUIDs that were acknowledged; each must be there, and have ended."""
    path = os.path.join(state, "queue.db")
    queue = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)
    try:
        verdict = queue.execute("PRAGMA integrity_check").fetchone()[0]
        if verdict != "ok":
            raise Wrong(f"{path}: {verdict}")
        items = {}
        for seq, place, text in queue.execute("SELECT task, place, item FROM items"):
            items.setdefault(seq, {})[place] = text
        found, pictures = {}, 0
        for row in queue.execute("SELECT seq, id, state, pictures, task, error FROM tasks WHERE is_answer = 0"):
            pictures += len(check_task(row, items.get(row[0], {}), os.path.join(state, "results")))
            found[row[1].rsplit("/", 1)[1]] = row[2]
    finally:
        queue.close()
    for uuid in must_have:
        if uuid not in found:
            raise Wrong(f"{uuid} was acknowledged and is not in the queue")
        if must_end and found[uuid] < DONE:
            raise Wrong(f"{uuid} was acknowledged and has not ended")
    return len(found), pictures


if __name__ == "__main__":
    print("%d tasks, %d pictures, all sound" % look(sys.argv[1]))
