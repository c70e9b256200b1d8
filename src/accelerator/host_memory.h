// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace torch_accelerated {

/// Has the C library keep freed memory for what is allocated next, for the whole process. By
/// default it gives a large tensor's back to the system, whose kernel then clears each page anew in
/// every update.
/// @return false where the C library isn't glibc, or the environment says how it is to allocate.
bool keep_freed_memory();

/// Gives the system what is free.
void give_back_freed_memory();

}  // namespace torch_accelerated
