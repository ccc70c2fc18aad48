"""Reading a COCO-sized annotation file: seconds and memory of detlab beside pycocotools.

    python experiments/benchmarks/index_loading.py [images] [boxes]

Writes a synthetic instances JSON (118,000 images, 860,000 boxes with short polygons unless told otherwise) into a
temporary folder, then loads it in fresh processes, one per reader, alternating. "kept" is the growth of the resident
set after loading; "each worker" is the private memory that a forked child gains by reading every annotation.
"""

from __future__ import annotations

import gc
import importlib
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS = 3
WORKERS = 4


def write_instances(path: Path, images: int, boxes: int) -> None:
    """A file as COCO's own: compact, image and annotation ids with gaps, 80 categories with gaps, 1 % crowds."""
    rng = np.random.default_rng(0)
    image_ids = np.sort(rng.choice(600_000, images, replace=False)).tolist()
    category_ids = np.sort(rng.choice(np.arange(1, 91), 80, replace=False)).tolist()
    owners = rng.integers(0, images, boxes).tolist()
    categories = rng.integers(0, 80, boxes).tolist()
    corners = (rng.random((boxes, 4)) * [400, 300, 200, 150] + [0, 0, 8, 8]).round(2).tolist()
    polygons = rng.integers(8, 30, boxes).tolist()
    noise = (rng.random(4096) * 600).round(2).tolist()
    with path.open("w") as file:
        entries = (
            {
                "license": 3,
                "file_name": f"{image_id:012d}.jpg",
                "coco_url": f"http://images.cocodataset.org/train2017/{image_id:012d}.jpg",
                "height": 480,
                "width": 640,
                "date_captured": "2013-11-14 11:18:45",
                "flickr_url": f"http://farm9.staticflickr.com/8186/{image_id}_ac9cf1b6e6_z.jpg",
                "id": image_id,
            }
            for image_id in image_ids
        )
        file.write('{"info": {"year": 2017}, "licenses": [], "images": [')
        file.write(", ".join(map(json.dumps, entries)))
        file.write('], "annotations": [')
        for at, (owner, category, box, length) in enumerate(zip(owners, categories, corners, polygons, strict=True)):
            start = at % 4000
            crowd = at % 100 == 0
            shape: Any = (
                {"counts": [at % 500] * length, "size": [480, 640]} if crowd else [noise[start : start + 2 * length]]
            )
            record = {
                "segmentation": shape,
                "area": round(box[2] * box[3] * 0.6, 4),
                "iscrowd": int(crowd),
                "image_id": image_ids[owner],
                "bbox": box,
                "category_id": category_ids[category],
                "id": 2 * at + 1,
            }
            file.write((", " if at else "") + json.dumps(record))
        names = [{"supercategory": "thing", "id": i, "name": f"class {i}"} for i in category_ids]
        file.write('], "categories": ' + json.dumps(names) + "}")


def load(reader: str, path: str) -> Any:
    """The annotations, as `reader` keeps them."""
    if reader == "pycocotools":
        from pycocotools.coco import COCO

        return COCO(path)
    from detlab.data.formats.coco import read_coco

    index, problems = read_coco("images", path)
    assert not problems
    return index


def read_all(reader: str, data: Any) -> float:
    """Touch every annotation once, image by image, as a worker does in an epoch."""
    total = 0.0
    if reader == "pycocotools":
        for image_id in data.imgs:
            for annotation in data.imgToAnns[image_id]:
                total += annotation["bbox"][0]
        return total
    for row in range(len(data)):
        total += float(data.boxes[data.boxes_of(row)].sum()) + int(data.ids[row])
    return total


def memory(*fields: str) -> float:
    """MB of this process, summed over `fields` of the kernel's own account."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return sum(sizes[field] for field in fields) / 1024


def measure(reader: str, path: str) -> dict[str, float]:
    """Load in this process, then read in forked children; seconds and MB."""
    importlib.import_module("pycocotools.coco" if reader == "pycocotools" else "detlab.data.formats.coco")
    gc.collect()
    before = memory("Rss")
    start = time.perf_counter()
    data = load(reader, path)
    seconds = time.perf_counter() - start
    gc.collect()
    kept = memory("Rss") - before
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def work() -> None:
        private = memory("Private_Dirty")
        read_all(reader, data)
        queue.put(memory("Private_Dirty") - private)

    workers = [context.Process(target=work) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return {"seconds": seconds, "kept": kept, "worker": max(queue.get() for _ in workers)}


def main(images: int = 118_000, boxes: int = 860_000) -> None:
    readers = ("detlab", "pycocotools")
    results: dict[str, list[dict[str, float]]] = {reader: [] for reader in readers}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instances.json"
        write_instances(path, images, boxes)
        print(f"{images:,} images, {boxes:,} boxes, {path.stat().st_size / 1e6:.0f} MB of JSON, best of {ROUNDS}")
        for _ in range(ROUNDS):
            for reader in readers:
                command = [sys.executable, __file__, "--measure", reader, str(path)]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                results[reader].append(json.loads(output.splitlines()[-1]))
    best = {reader: {key: min(r[key] for r in rows) for key in rows[0]} for reader, rows in results.items()}
    print(f"{'':12} {'seconds':>9} {'kept MB':>9} {'each worker MB':>15}")
    for reader in readers:
        row = best[reader]
        print(f"{reader:12} {row['seconds']:9.2f} {row['kept']:9.0f} {row['worker']:15.1f}")
    ratio = {key: best["pycocotools"][key] / best["detlab"][key] for key in ("seconds", "kept")}
    print(f"detlab is {ratio['seconds']:.1f} times as fast and keeps 1/{ratio['kept']:.1f} of the memory")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(*sys.argv[2:])))
    else:
        main(*map(int, sys.argv[1:]))
