// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace torch_accelerated {

/// The text of the exception that is being handled, or the name of its type where it has none.
std::string current_exception_text();

}  // namespace torch_accelerated
