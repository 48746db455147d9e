"""Every kind of good, odd and bad clip is right or clearly refused; the table in extract/README.md is what happens."""

import functools
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import pytest
import video_kinds as kinds
from PIL import Image

from actiondiff.extract import Clip, ClipError
from actiondiff.extract.pixels import MOST_PIXELS

README = Path(__file__).parents[2] / "extract" / "README.md"
EVERY_40_MS = [number / 25 for number in range(60)]
UNEVEN_MS = [*range(0, 400, 20), *range(400, 3600, 80)]
HIGH, WIDE = kinds.HEIGHT, kinds.WIDTH


@dataclass(frozen=True)
class Kind:
    """A clip and what is known of it from its making.

    Attributes:
        make: writes it into a folder.
        code: why it must be refused; empty if it must be right.
        seconds: times of its frames.
        numbers: which drawn pictures they are; None where they are drawn otherwise.
        size_hw: of the first frame.
        note: what must be noted; empty if nothing may be.
    """

    make: Callable[[Path], Path]
    code: str = ""
    seconds: Sequence[float] = field(default_factory=lambda: EVERY_40_MS)
    numbers: Sequence[int] | None = ()
    size_hw: tuple[int, int] = (HIGH, WIDE)
    note: str = ""


def video(name: str, codec: str = "libx264", **how) -> Callable[[Path], Path]:
    return lambda folder: kinds.write(folder / name, codec, **how)


def changed(name: str, change: Callable[[bytes], bytes], codec: str = "libx264", **how) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = kinds.write(folder / name, codec, **how)
        path.write_bytes(change(path.read_bytes()))
        return path

    return make


def of_bytes(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def of_images(*images: Image.Image | bytes, suffix: str = ".png") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for number, image in enumerate(images):
            path = folder / f"frame{number}{suffix}"
            path.write_bytes(image) if isinstance(image, bytes) else image.save(path)
        return folder

    return make


def cut_to(share: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(share * len(data))]


def with_sound(folder: Path, name: str, video_frames: int, seconds: float, cover: bool = False) -> Path:
    path = folder / name
    with av.open(str(path), "w") as container:
        streams = []
        if video_frames:
            pictures = container.add_stream("mpeg4" if not cover else "mjpeg", rate=25)
            pictures.height, pictures.width = HIGH, WIDE
            pictures.pix_fmt = "yuvj420p" if cover else "yuv420p"
            if cover:
                pictures.disposition = av.stream.Disposition.attached_pic
            streams.append(pictures)
        sound = container.add_stream("aac", rate=8000)
        for number in range(video_frames):
            container.mux(streams[0].encode(av.VideoFrame.from_ndarray(kinds.picture(number), format="rgb24")))
        if video_frames:
            container.mux(streams[0].encode(None))
        for number in range(int(seconds * 8000) // 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.rate, frame.pts = 8000, number * 1024
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def two_streams(folder: Path) -> Path:
    path = folder / "clip.mp4"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("mpeg4", rate=25) for _ in range(2)]
        sizes = [(HIGH, WIDE), (32, 32)]
        for stream, size_hw in zip(streams, sizes, strict=True):
            (stream.height, stream.width), stream.pix_fmt = size_hw, "yuv420p"
        for stream, size_hw in zip(streams, sizes, strict=True):
            for number in range(60):
                picture = av.VideoFrame.from_ndarray(kinds.picture(number, *size_hw), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    return path


def size_changes(folder: Path) -> Path:
    """MJPEG, whose every packet tells its size."""
    parts = [
        kinds.write(folder / f"{size[0]}.avi", "mjpeg", 30, size_hw=size, pixel_format="yuvj420p")
        for size in ((HIGH, WIDE), (32, 96))
    ]
    path = folder / "clip.mkv"
    with av.open(str(parts[0])) as one, av.open(str(parts[1])) as two, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(one.streams.video[0])
        packets = (packet for old in (one, two) for packet in old.demux(video=0) if packet.size)
        for number, packet in enumerate(packets):
            packet.pts = packet.dts = number
            packet.stream = stream
            new.mux(packet)
    return path


def bad_packets(first: int, last: int, codec: str = "mjpeg") -> Callable[[Path], Path]:
    """Packets of nothing but ones in place of some."""

    def make(folder: Path) -> Path:
        good = kinds.write(folder / "good.avi", codec, pixel_format="yuvj420p")
        path = folder / "clip.avi"
        with av.open(str(good)) as old, av.open(str(path), "w") as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            for number, packet in enumerate(packet for packet in old.demux(video=0) if packet.size):
                if first <= number < last:
                    times = packet.pts, packet.dts, packet.time_base
                    packet = av.Packet(b"\1" * packet.size)
                    packet.pts, packet.dts, packet.time_base = times
                packet.stream = stream
                new.mux(packet)
        return path

    return make


def huge_png() -> bytes:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    body = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def with_huge_header(data: bytes) -> bytes:
    place = data.index(b"strf") + 8 + 4  # BITMAPINFOHEADER: its own size, then width and height
    return data[:place] + struct.pack("<ii", 16_000, 16_000) + data[place + 8 :]


def grey_16(value: int) -> Image.Image:
    return Image.fromarray(np.full((HIGH, WIDE), value, np.uint16))


KINDS = {
    "H.264 in MP4, B-frames": Kind(video("clip.mp4", options={"preset": "medium"})),
    "H.264 in fragmented MP4": Kind(video("clip.mp4", container_options={"movflags": "frag_keyframe+empty_moov"})),
    "H.265 in MKV, 10 bit": Kind(
        video("clip.mkv", "libx265", pixel_format="yuv420p10le", options={"x265-params": "log-level=none"})
    ),
    "VP8 in WebM, hidden frames": Kind(
        video("clip.webm", "libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good"})
    ),
    "AV1 in MKV": Kind(video("clip.mkv", "libsvtav1", options={"preset": "12"})),
    "MPEG-2 in a transport stream": Kind(video("clip.ts", "mpeg2video", b_frames=2)),
    "MPEG-4 in AVI, B-frames without times": Kind(video("clip.avi", "mpeg4", b_frames=2)),
    "MPEG-4 in AVI, packed B-frames and placeholders (DivX, XviD)": Kind(
        lambda folder: kinds.packed_avi(folder / "clip.avi", 61), seconds=[number / 25 for number in range(61)]
    ),
    "H.264 in AVI, B-frames without times": Kind(video("clip.avi", options={"preset": "medium"})),
    "variable frame rate": Kind(
        video("clip.mkv", times_ms=UNEVEN_MS), seconds=[ms / 1000 for ms in UNEVEN_MS], note="variable frame rate"
    ),
    "turned by a quarter (telephone)": Kind(
        changed("clip.mp4", lambda data: kinds.with_matrix(data, 0, 1, -1, 0)), size_hw=(WIDE, HIGH), note="turned"
    ),
    "mirrored (front camera)": Kind(
        changed("clip.mp4", lambda data: kinds.with_matrix(data, -1, 0, 0, 1)), note="mirrored"
    ),
    "turned by 45 degrees": Kind(changed("clip.mp4", lambda data: kinds.with_matrix(data, 1, 1, -1, 1)), "turned"),
    "odd height and width": Kind(
        video("clip.mp4", size_hw=(47, 63), pixel_format="yuv444p"), size_hw=(47, 63)
    ),
    "grey": Kind(video("clip.mkv", "ffv1", pixel_format="gray"), numbers=None),
    "with alpha": Kind(video("clip.mov", "qtrle", pixel_format="argb")),
    "interlaced": Kind(video("clip.mp4", options={"x264-params": "tff=1"}), note="interlaced"),
    "times start late": Kind(video("clip.mkv", times_ms=range(7000, 9400, 40))),
    "times start below zero": Kind(
        video("clip.ts", times_ms=range(-400, 2000, 40), container_options={"avoid_negative_ts": "disabled"})
    ),
    "times start below zero in MKV, which cannot hold them": Kind(
        video("clip.mkv", times_ms=range(-400, 2000, 40), container_options={"avoid_negative_ts": "disabled"}),
        seconds=[float("nan")] * 60,
        note="60 frames have no time",
    ),
    "edit list: beginning cut away": Kind(
        changed("clip.mp4", lambda data: kinds.with_edits(data, [(1000, 12800 + 1024)]), options={"g": "12"}),
        seconds=EVERY_40_MS[:25],
        numbers=range(25, 50),
    ),
    "edit list: shown after a pause": Kind(
        changed("clip.mp4", lambda data: kinds.with_edits(data, [(2000, -1), (2400, 1024)]))
    ),
    "picture begins after the sound": Kind(
        lambda folder: late_picture(folder / "clip.mkv"), note="begins 1.00 s into the file"
    ),
    "sound goes on after the picture": Kind(lambda folder: with_sound(folder, "clip.mkv", 60, 6.0)),
    "size changes in mid-stream": Kind(size_changes, numbers=None, note="change their size"),
    "two video streams": Kind(two_streams, note="first of 2 video streams"),
    "one frame": Kind(video("clip.mp4", frames=1), seconds=[0.0]),
    "one frame in AVI, B-frames allowed": Kind(video("clip.avi", "mpeg4", frames=1, b_frames=2), seconds=[0.0]),
    "last packets damaged": Kind(
        bad_packets(57, 60), seconds=EVERY_40_MS[:57], note="60 frames are promised, 57 were decoded"
    ),
    "a third of the packets damaged": Kind(bad_packets(20, 40), "truncated"),
    "every packet damaged": Kind(bad_packets(0, 60), "decode_error"),
    "cut off at half, AVI": Kind(changed("clip.avi", cut_to(0.5), "mjpeg", pixel_format="yuvj420p"), "truncated"),
    "cut off at half, MP4 with its index first": Kind(
        changed("clip.mp4", cut_to(0.5), container_options={"movflags": "faststart"}), "truncated"
    ),
    "cut off at half, MKV": Kind(changed("clip.mkv", cut_to(0.5)), "truncated"),
    "cut off at half, MKV with sound": Kind(
        lambda folder: cut_file(with_sound(folder, "clip.mkv", 60, 2.4), 0.5), "truncated"
    ),
    "cut off, MP4 with its index last": Kind(changed("clip.mp4", cut_to(0.9)), "decode_error"),
    "codec without a decoder": Kind(changed("clip.mp4", lambda data: data.replace(b"avc1", b"zzzz")), "no_decoder"),
    "header of 16000x16000 pixels": Kind(
        changed("clip.avi", with_huge_header, "huffyuv", pixel_format="yuv422p"), "too_large"
    ),
    "sound only": Kind(lambda folder: with_sound(folder, "clip.mp4", 0, 2.0), "no_video"),
    "sound with a cover picture": Kind(lambda folder: with_sound(folder, "clip.mp4", 1, 2.0, cover=True), "no_video"),
    "zero bytes": Kind(of_bytes("clip.mp4", b""), "decode_error"),
    "text named .mp4": Kind(of_bytes("clip.mp4", b"I am no video\n" * 50), "decode_error"),
    "nothing there": Kind(lambda folder: folder / "clip.mp4", "missing"),
    "folder of images, 16-bit grey": Kind(
        of_images(grey_16(0x8000), grey_16(0)), seconds=[float("nan")] * 2, numbers=None
    ),
    "folder of images, alpha": Kind(
        of_images(Image.fromarray(kinds.picture(0)).convert("RGBA")), seconds=[float("nan")]
    ),
    "folder with a broken image": Kind(of_images(grey_16(0), b"no image"), "decode_error"),
    "folder with an image of 60000x60000 pixels": Kind(of_images(huge_png()), "too_large"),
    "folder without images": Kind(lambda folder: folder, "no_frames"),
}  # fmt: skip


def late_picture(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        pictures, sound = container.add_stream("mpeg4", rate=25), container.add_stream("aac", rate=8000)
        (pictures.height, pictures.width), pictures.pix_fmt = (HIGH, WIDE), "yuv420p"
        for number in range(28):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.rate, frame.pts = 8000, number * 1024
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
        for number in range(60):
            picture = av.VideoFrame.from_ndarray(kinds.picture(number), format="rgb24")
            picture.pts = number + 25
            container.mux(pictures.encode(picture))
        container.mux(pictures.encode(None))
    return path


def cut_file(path: Path, share: float) -> Path:
    path.write_bytes(cut_to(share)(path.read_bytes()))
    return path


def looks_like(pixels: np.ndarray) -> int:
    """The number of the drawn picture that is nearest."""
    apart = [np.abs(kinds.picture(number, *pixels.shape[:2]) - pixels.astype(int)).mean() for number in range(70)]
    return int(np.argmin(apart))


def outcome_of(clip: Clip) -> "Outcome":
    frames = clip.frames()
    try:
        return "", list(frames), frames.reading.notes
    except ClipError as error:
        return error.code if clip.path.name in str(error) else f"{error.code}, without naming the file", [], ()


Outcome = tuple[str, list, tuple[str, ...]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> Callable[[str], Outcome]:
    @functools.cache
    def outcome(name: str) -> Outcome:
        folder = tmp_path_factory.mktemp("kind")
        found = outcome_of(Clip(KINDS[name].make(folder)))
        shutil.rmtree(folder)
        return found

    return outcome


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_right_or_refused_with_its_code(outcomes, name):
    kind, (code, frames, notes) = KINDS[name], outcomes(name)
    assert code == kind.code
    if code:
        return
    assert [frame.index for frame in frames] == list(range(len(kind.seconds)))
    assert np.allclose([frame.pts_seconds for frame in frames], kind.seconds, atol=1e-9, equal_nan=True)
    assert frames[0].pixels.shape == (*kind.size_hw, 3)
    assert kind.note in "; ".join(notes)
    assert bool(kind.note) == bool(notes), notes


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.code and kind.numbers is not None])
def test_each_frame_is_the_picture_drawn_for_its_time(outcomes, name):
    kind, (_, frames, _) = KINDS[name], outcomes(name)
    back = {
        "turned by a quarter (telephone)": lambda pixels: np.rot90(pixels),
        "mirrored (front camera)": lambda pixels: pixels[:, ::-1],
    }.get(name, lambda pixels: pixels)
    numbers = kind.numbers or range(len(kind.seconds))
    assert [looks_like(back(frame.pixels)) for frame in frames[::7]] == list(numbers)[::7]


@pytest.mark.parametrize(
    "name",
    ["H.265 in MKV, 10 bit", "odd height and width", "grey", "with alpha", "interlaced", "size changes in mid-stream"],
)
def test_pixels_are_those_that_pyav_converts_frame_by_frame(tmp_path, name):
    path = KINDS[name].make(tmp_path)  # once: x264 does not always make the same file of the same pictures
    with av.open(str(path)) as container:
        plain = [picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)]
    frames = Clip(path).frames()
    assert all(np.array_equal(frame.pixels, pixels) for frame, pixels in zip(frames, plain, strict=True))


def test_the_readme_tells_what_each_kind_gets(outcomes):
    begin, end = "<!-- kinds -->\n", "<!-- end of kinds -->\n"
    table = README.read_text().split(begin)[1].split(end)[0]
    assert table == table_of(outcomes), f"put this into extract/README.md:\n{table_of(outcomes)}"


def test_every_code_of_clips_stands_in_the_table_or_below_it():
    text = README.read_text()
    sources = [path.read_text() for path in README.parent.glob("*.py")]
    codes = {code for source in sources for code in re.findall(r'ClipError\(\s*"(\w+)"', source)}
    assert codes >= {"decode_error", "truncated", "no_video", "no_frames", "no_clock", "missing", "too_large"}
    assert not [code for code in codes if f"`{code}`" not in text]


def test_the_limit_of_size_lets_every_camera_through():
    assert MOST_PIXELS > 12288 * 6480


def table_of(outcomes) -> str:
    rows = ["| kind of clip | gets | note |", "|---|---|---|"]
    for name in KINDS:
        code, frames, notes = outcomes(name)
        gets = f"refused: `{code}`" if code else f"right, {len(frames)} frame{'s' * (len(frames) > 1)}"
        rows.append(f"| {name} | {gets} | {'; '.join(notes)} |")
    return "\n".join(rows) + "\n"
