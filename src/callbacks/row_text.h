// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "torch_accelerated/history/history.h"

namespace torch_accelerated {

// How a row of the history looks in a file. Numbers are the shortest that read back to the same
// bits, in the "C" locale.

/// {"epoch":1,"updates":8,"intermediate":false,"train_loss":0.5} and a newline; a number that isn't
/// finite is null.
std::string json_line(const HistoryRow& row);

/// The columns of a line of CSV, as RFC 4180 quotes them.
std::vector<std::string> csv_fields(std::string_view line);
std::string csv_line(const std::vector<std::string>& fields);

/// epoch, updates and intermediate: what each row begins with.
std::vector<std::string> first_columns();

/// Adds those of the row's metrics that aren't there; whether there were any.
bool add_columns(const HistoryRow& row, std::vector<std::string>& columns);

/// One line with a field for each of `columns`, empty where the row has no such metric.
std::string csv_line(const HistoryRow& row, const std::vector<std::string>& columns);

}  // namespace torch_accelerated
