/* liblzma 5.4. An lzma_stream of zeros is a fresh one. Initialising a used one keeps its memory where it can be used
   again. A decoder allocates the dictionary that its input asks for, up to 4 GiB: give it a limit. */
#pragma once
#include <lzma.h>

/* Macros that Swift cannot import. */
static const lzma_vli cairn_xz_filter_lzma2 = LZMA_FILTER_LZMA2;
static const lzma_vli cairn_xz_filters_end = LZMA_VLI_UNKNOWN;
