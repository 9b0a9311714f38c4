"""Netlink messages: what is built, and how answers are walked."""

import errno
import os
import struct

from twlab.linux import netlink


def test_a_request_is_header_and_body():
    """Length, type, flags with NLM_F_REQUEST, number, port 0; then the body as it is."""
    built = netlink.message(26, b"body!", netlink.DUMP, number=7)
    assert built == struct.pack("=IHHII", 16 + 5, 26, 0x301, 7, 0) + b"body!"


def test_answers_are_walked_in_steps_of_four_bytes():
    """Two answers in one datagram, the first of an odd length."""
    first, second = struct.pack("=IHHII", 16 + 5, 20, 0, 1, 0) + b"five!", struct.pack("=IHHII", 16, 3, 0, 2, 0)
    assert list(netlink.answers(first + bytes(3) + second)) == [(20, 1, b"five!"), (netlink.DONE, 2, b"")]


def test_an_answer_shorter_than_its_header_does_not_stop_the_walk():
    """A length of 0, which the kernel never sends, is taken for a bare header."""
    assert len(list(netlink.answers(bytes(32)))) == 2
    assert len(list(netlink.attributes(bytes(12)))) == 3


def test_errors_are_numbers():
    """NLMSG_ERROR holds a negative errno; 0 acknowledges."""
    assert netlink.error_number(struct.pack("=i", -errno.ENOENT) + bytes(16)) == errno.ENOENT
    assert os.strerror(netlink.error_number(struct.pack("=i", 0))) == "Success"


def test_attributes_are_padded_and_walked_back():
    """What `attribute` builds, `attributes` gives back, without the flag of nested ones."""
    built = netlink.attribute(1, b"abc") + netlink.attribute(2 | netlink.NESTED, netlink.attribute(3, b"wxyz"))
    assert len(built) == 8 + 12
    (one, two) = netlink.attributes(b"head" + built, start=4)
    assert one == (1, b"abc")
    assert two[0] == 2
    assert list(netlink.attributes(two[1])) == [(3, b"wxyz")]
