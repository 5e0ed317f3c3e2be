/* Expat 2.5: reads XML from bytes. Callbacks get the pointer set by XML_SetUserData; they must not unwind. Entities are
   expanded by the parser itself unless its document type is refused, as its reader does. */
#pragma once
#include <expat.h>
