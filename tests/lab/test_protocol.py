"""The channel between the lab's processes: messages whole, descriptors too, the end noticed."""

from __future__ import annotations

import os
import threading

import pytest

from tcpwatch.lab.protocol import Channel, channel_pair


def channels() -> tuple[Channel, Channel]:
    ours, theirs = channel_pair()
    return Channel(ours), Channel(theirs)


def test_messages_come_whole_and_in_order() -> None:
    ours, theirs = channels()
    theirs.send({"a": 1}, b"\0\xff")
    theirs.send({"b": [None, "x"]})
    messages, gone = ours.receive_available()
    assert [(message.body, message.blob) for message in messages] == [
        ({"a": 1}, b"\0\xff"),
        ({"b": [None, "x"]}, b""),
    ]
    assert not gone
    ours.close()
    theirs.close()


def test_a_message_may_be_longer_than_the_kernel_s_buffer() -> None:
    ours, theirs = channels()
    blob = os.urandom(3_000_000)
    sender = threading.Thread(target=theirs.send, args=({"n": 1}, blob))
    sender.start()
    message = ours.receive()
    sender.join()
    assert message is not None
    assert message.blob == blob
    ours.close()
    theirs.close()


def test_descriptors_stay_with_their_message() -> None:
    ours, theirs = channels()
    pipes = [os.pipe() for _ in range(3)]
    for number, (_, writer) in enumerate(pipes):
        theirs.send({"plain": number})
        theirs.send({"with": number}, fds=[writer])
    received = [message for message in ours.receive_available()[0] if message.fds]
    for (reader, writer), message in zip(pipes, received, strict=True):
        os.close(writer)
        os.write(message.fds[0], b"%d" % message.body["with"])
        os.close(message.fds[0])
        assert os.read(reader, 10) == b"%d" % message.body["with"]
        os.close(reader)
    ours.close()
    theirs.close()


def test_the_kernel_names_the_sender() -> None:
    ours, theirs = channels()
    theirs.send({})
    message = ours.receive()
    assert message is not None
    assert message.pid in (os.getpid(), None)
    ours.close()
    theirs.close()


def test_the_end_comes_after_the_last_message() -> None:
    ours, theirs = channels()
    theirs.send({"last": True})
    theirs.close()
    messages, gone = ours.receive_available()
    assert [message.body for message in messages] == [{"last": True}]
    assert gone
    assert ours.receive() is None
    ours.close()


def test_sending_to_the_dead_is_an_error_and_no_signal() -> None:
    ours, theirs = channels()
    ours.close()
    with pytest.raises(BrokenPipeError):
        theirs.send({})
    theirs.close()
