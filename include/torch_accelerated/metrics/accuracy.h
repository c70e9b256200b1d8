// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "torch_accelerated/metrics/metric.h"

namespace torch_accelerated {

/// Where the scores and the classes are found, and how many of the best scores count as a hit.
struct AccuracyOptions {
  std::int64_t top_k = 1;
  std::string output = {};        ///< name of the scores; empty: the model's only output
  std::string target = "target";  ///< name of the classes in the batch
};

/// The share of rows whose class is among the `top_k` highest scores.
///
/// Scores have shape (rows, classes), classes (rows), integer.
/// @throws ArgumentError  top_k < 1 at the call; shapes that don't fit when it is evaluated.
Metric accuracy(AccuracyOptions options = {});

}  // namespace torch_accelerated
