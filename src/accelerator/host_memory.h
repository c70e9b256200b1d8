// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace torch_accelerated {

/// Has freed memory kept for what is allocated next: that of this thread's tensors of up to 512 KiB
/// as host_blocks.h says, and that of larger ones by the C library, for the whole process, where
/// that is glibc. By default it gives a large tensor's back to the system, whose kernel then clears
/// each page anew in every update.
/// @return false where neither can be done, or the environment says how glibc is to allocate.
bool keep_freed_memory();

/// Gives the system what is free, of this thread's blocks and of the C library's.
void give_back_freed_memory();

}  // namespace torch_accelerated
