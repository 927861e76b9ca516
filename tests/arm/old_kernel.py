"""Makes a copy of a 32-bit ARM program for which every kernel is Linux 3.2: each system call newer than
that fails with ENOSYS, 64-bit time among them. A filter of the build machine's kernel cannot do that for
an emulated program, because the emulator translates calls: what asks for clock_gettime64(2) there
arrives as clock_gettime(2) here.

Every `svc 0` becomes a branch to a piece of code at the end of the file, which looks at the number; but
for those right after a `mov r7, #NUMBER`, which has no room for numbers above 255. A thread ends by two
of them, and has no stack after the first.
Usage: old_kernel.py PROGRAM COPY"""
import struct
import sys

SVC = 0xEF000000
MOV_R7 = 0xE3A07000
# kcmp(2), the first that 3.2 does not have. Those of ARM alone, from 0xf0001 on, are old.
FIRST = 378
# Above this and below ARM's own there is nothing.
MANY = 0x400
LOAD, EXECUTABLE, RELRO = 1, 1, 0x6474E552
PAGE = 0x10000


def branch(condition, begin, end):
    return condition << 28 | 0x0A000000 | (end - begin - 8 >> 2) & 0xFFFFFF


def piece(address, back):
    """The code in place of an `svc 0`, at `address`; `back` is where that one stood."""
    words = [
        0xE92D0006,  # push {r1, r2}
        0xE10F1000,  # mrs r1, cpsr
        0xE2472C01,  # sub r2, r7, #0x100
        0xE2422000 | FIRST - 0x100,  # sub r2, r2, #FIRST - 0x100
        0xE3520B00 | MANY >> 10,  # cmp r2, #MANY
        branch(2, 5 * 4, 10 * 4),  # bhs to the old calls
        0xE128F001,  # msr cpsr_f, r1
        0xE8BD0006,  # pop {r1, r2}
        0xE3E00025,  # mvn r0, #37, which is -ENOSYS
        branch(14, address + 9 * 4, back + 4),
        0xE128F001,  # msr cpsr_f, r1
        0xE8BD0006,  # pop {r1, r2}
        SVC,
        branch(14, address + 13 * 4, back + 4),
    ]
    return struct.pack("<14I", *words)


def main(program, copy):
    data = bytearray(open(program, "rb").read())
    assert data[:6] == b"\x7fELF\x01\x01" and data[18] == 40, "no 32-bit little-endian program for ARM"
    (table,) = struct.unpack_from("<I", data, 28)
    size, count = struct.unpack_from("<HH", data, 42)
    places = [table + size * number for number in range(count)]
    headers = [struct.unpack_from("<8I", data, place) for place in places]
    # The piece of code is one segment more; what says that some data is never written makes room.
    spare = next(place for place, header in zip(places, headers) if header[0] == RELRO)
    loads = [header for header in headers if header[0] == LOAD]
    data += bytes(-len(data) % PAGE)
    offset = len(data)
    end = max(header[2] + header[5] for header in loads)
    address = end + -end % PAGE + PAGE
    found = 0
    for _, start, virtual, _, length, _, flags, _ in loads:
        if not flags & EXECUTABLE:
            continue
        for place in range(start, start + length - 3, 4):
            before, here = struct.unpack_from("<2I", data, place - 4)
            if here == SVC and before & ~0xFF != MOV_R7:
                site = virtual + place - start
                here = address + len(data) - offset
                data += piece(here, site)
                struct.pack_into("<I", data, place, branch(14, site, here))
                found += 1
    assert found > 100, f"only {found} system calls found"
    length = len(data) - offset
    struct.pack_into("<8I", data, spare, LOAD, offset, address, address, length, length, 5, PAGE)
    with open(copy, "wb") as file:
        file.write(data)


main(*sys.argv[1:])
