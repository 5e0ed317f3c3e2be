/* LZ4 1.9, blocks without a frame: they hold neither their length nor a checksum. Lengths are int; a source may have at
   most LZ4_MAX_INPUT_SIZE bytes. States need the alignment of a pointer. */
#pragma once
#include <lz4.h>
#include <lz4hc.h>
