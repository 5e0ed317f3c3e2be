/* ISA-L 2.30: Reed-Solomon over GF(2^8) and CRC. Tables handed to ec_encode_data are 32 * k * rows
   bytes; lengths are int, so one block must stay under 2 GiB. */
#pragma once
#include <isa-l/crc.h>
#include <isa-l/erasure_code.h>
