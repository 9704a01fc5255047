"""Use the fleet through its client: ``python client.py URL PHOTO...``."""

import sys

from producer import Client


def main(url: str, *photos: str) -> None:
    """Keep many photos under way at once and print answers as they come."""
    with Client(url) as client:
        for answer in client.map(photos, window=64, ordered=False):
            if answer.error is not None:
                print(answer.image, answer.error.code, answer.error)
                continue
            for found in answer.result.detections:
                print(answer.image, found.label, found.score, found.box)


if __name__ == "__main__":
    main(*sys.argv[1:])
