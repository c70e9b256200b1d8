// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "torch_accelerated/core/named_values.h"
#include "torch_accelerated/core/torch_forward.h"

namespace torch_accelerated {

/// Tensors by name, in the order in which they were set: a batch, a model's outputs, a dataset's
/// fields. Copies share the tensors, as copies of a torch::Tensor do.
class TensorDict {
 public:
  using Entry = std::pair<std::string, torch::Tensor>;

  TensorDict();
  TensorDict(std::initializer_list<Entry> entries);
  TensorDict(const TensorDict&);
  TensorDict(TensorDict&&) noexcept;
  TensorDict& operator=(const TensorDict&);
  TensorDict& operator=(TensorDict&&) noexcept;
  ~TensorDict();

  /// The tensor called `name`.
  /// @throws ArgumentError  when there is none; the message lists the names that there are.
  const torch::Tensor& operator[](std::string_view name) const;

  /// Adds `value` under `name`, or puts it in the place of what stood there.
  TensorDict& set(std::string_view name, torch::Tensor value);

  /// The one tensor of a dict that has one.
  /// @throws ArgumentError  when there are none or several.
  const torch::Tensor& only() const;

  bool contains(std::string_view name) const noexcept;
  bool empty() const noexcept { return size() == 0; }
  std::size_t size() const noexcept;
  const Entry* begin() const noexcept;
  const Entry* end() const noexcept;

  /// The first dimension of the first tensor: how many samples a batch holds; 0 when empty.
  /// @throws ArgumentError  when that tensor has no dimension.
  std::int64_t rows() const;

  TensorDict to(c10::Device device, bool non_blocking = false) const;
  TensorDict pin_memory() const;
  TensorDict detach() const&;
  TensorDict detach() &&;

  /// Names, shapes, dtypes and devices in one line, for messages.
  std::string describe() const;

 private:
  NamedValues<torch::Tensor> values_;
};

/// What a model reads: by habit "data" and "target".
using Batch = TensorDict;

}  // namespace torch_accelerated
